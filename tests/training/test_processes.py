"""Two processes follow one: the same global batch gives the same weights, and only the main process writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from children import with_helpers
from helpers import log_of, make_classifier, make_digits
from safetensors.torch import load_file, save_file
from torch import Tensor

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.errors import DataError
from robust_transfer.pretraining import Natural
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, FitResult, NaturalObjective, Objective, TrainingSettings, fit
from robust_transfer.training.processes import Processes

SETTINGS = TrainingSettings(
    epochs=5, batch_size=26, learning_rate=0.02, schedule="constant", guard_every=4, select="clean"
)  # 20 steps, 4 an epoch of 111 images: 7 wait
PROCESSES = 2


def accuracy(split: Split) -> Any:
    def validate(classifier: Classifier) -> dict[str, float]:
        print(f"validated by {Processes(torch.device('cpu')).rank}", flush=True)
        with classifier.eval_mode(), torch.no_grad():
            right = classifier(split.images().float() / 255).argmax(1) == split.labels
        return {"clean_accuracy": float(right.float().mean())}

    return validate


class Meeting(Objective):
    """Meets a loss that is no number in one process only, at step 17."""

    met = False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out: dict[str, Tensor] = super().forward(batch)  # type: ignore[safe-super]
        if batch.step == 17 and not self.met:
            self.met = True
            if Processes(batch.images.device).rank == Processes(batch.images.device).world - 1:
                out["loss"] = out["loss"] * torch.nan
        return out


class Natural20(Meeting, NaturalObjective):
    """Natural training."""


class Free20(Meeting, FreeObjective):
    """Free adversarial training."""


class Faltering(Natural20):
    """The same, and just before, where a state would be kept, one process's predictions are all of one class."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = super().forward(batch)
        if batch.step == 15 and Processes(batch.images.device).rank == Processes(batch.images.device).world - 1:
            out["logits"] = torch.zeros_like(out["logits"])
        return out


class Guarded(AdversarialObjective):
    """Fast adversarial training whose guard objects in the main process only, at its second look."""

    looks = 0

    def guard(self) -> tuple[str | None, dict[str, float]]:
        self.looks += 1
        objects = self.looks == 2 and Processes(self.classifier.device).main
        return ("overfitting" if objects else None), {"guard": float(self.looks)}


def scene(name: str, out: Path) -> FitResult:
    """One training run in however many processes there are."""
    task, run = make_digits(train=111, val=40), Run(precision="float32", quiet=True, out=out, device="cpu")
    classifier = make_classifier()
    classifier.hold_batch_norm = name != "statistics"
    objective: Objective
    if name == "fast":
        classifier.freeze(["body.conv1.weight"])
        # l2, whose steps are smooth: the sign in those of linf makes another image of the last bits of a gradient
        objective = Guarded(classifier, Threat.parse("l2:0.3"), run, steps=1, step=1.25, guarded=task.val)
    elif name == "free":
        threat = Threat.parse("linf:8/255")
        objective = Free20(classifier, threat, replays=3, step=1.0, slots=SETTINGS.batch_size)
    else:
        objective = (Faltering if name == "faltering" else Natural20)(classifier, 400)
    torch.manual_seed(0)
    result = fit(objective, task.train, SETTINGS, run, validate=accuracy(task.val))
    if Processes(torch.device("cpu")).main:
        tensors = {k: v.contiguous() for k, v in result.classifier.state_dict().items()}
        save_file(
            tensors, out / "result.safetensors", {"result": json.dumps([result.events, result.images, result.figures])}
        )
    return result


def work(out: Path) -> None:
    """What each of the two processes runs."""
    processes = Processes(torch.device("cpu"))
    (out / f"process-{processes.rank}").write_text(str(processes.world))
    for name in ("natural", "faltering", "fast", "free", "statistics"):
        scene(name, out / name)
    task = make_digits(train=111, val=40)
    run = Run(precision="float32", quiet=True, out=out / "whole", device="cpu")
    Natural(epochs=2, batch_size=26, learning_rate=0.02)(task, network="wrn_16_1", threat="linf:1/255", run=run)
    try:
        few = task.train.subset(torch.arange(1))
        fit(NaturalObjective(make_classifier()), few, TrainingSettings(batch_size=26), Run(quiet=True))
    except DataError as error:
        print(f"refused: {error}", flush=True)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of a run in two processes."""
    out = tmp_path_factory.mktemp("together")
    command = [sys.executable, __file__, str(out)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=400, env=with_helpers())
    assert child.returncode == 0, child.stderr[-3000:]
    return out, child.stdout


def test_there_were_two_processes(together: tuple[Path, str]) -> None:
    assert {p.name: p.read_text() for p in together[0].glob("process-*")} == {"process-0": "2", "process-1": "2"}


@pytest.mark.parametrize("name", ["natural", "faltering", "fast", "free"])
def test_two_processes_follow_one(together: tuple[Path, str], tmp_path: Path, name: str) -> None:
    alone = scene(name, tmp_path)
    found = load_file(together[0] / name / "result.safetensors")
    start = make_classifier().state_dict()
    for key, value in alone.classifier.state_dict().items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    assert max(float((found[k] - start[k]).abs().max()) for k in found) > 0.01, "20 steps have moved the weights"
    mine, theirs = log_of(tmp_path), log_of(together[0] / name)
    assert theirs[0]["event"] == "2 processes, 13 images each a step; batch norm in evaluation mode"
    events = [r for r in theirs[1:] if "event" in r]
    assert events == [r for r in mine if "event" in r]
    assert len(events) == 1, "what one process meets, all go back from"
    rows = [r for r in theirs[1:] if "loss" in r], [r for r in mine if "loss" in r]
    assert [r["step"] for r in rows[0]] == [r["step"] for r in rows[1]]
    validated = [[r for r in log if "val_clean_accuracy" in r] for log in (theirs, mine)]
    assert [r["step"] for r in validated[0]] == [r["step"] for r in validated[1]]
    assert len(validated[0]) == (6 if name == "faltering" else 5)  # it goes back beyond an epoch that had ended


def test_statistics_of_a_share_are_announced(together: tuple[Path, str]) -> None:
    first = log_of(together[0] / "statistics")[0]
    assert first["event"].endswith("batch-norm statistics are those of each process's share")


def test_only_the_main_process_validates_and_writes(together: tuple[Path, str]) -> None:
    folder, printed = together
    assert "validated by 0" in printed
    assert "validated by 1" not in printed
    steps = [r["step"] for r in log_of(folder / "natural") if "loss" in r]
    assert steps == sorted(set(steps)) == [1, 4, 8, 12, 16, 20]
    assert {p.name for p in (folder / "whole").iterdir()} == {
        "model.safetensors",
        "card.json",
        "config.yaml",
        "README.md",
        "metrics.jsonl",
        "fingerprints.safetensors",
        ".written.json",
    }


def test_too_few_images_for_the_processes(together: tuple[Path, str]) -> None:
    assert together[1].count("refused: 1 training images in batches of 26 are too few for 2 processes") == 2


def test_one_process_leaves_accelerate_and_its_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state is global: made once for a GPU, it would refuse the CPU ever after; and it reads the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    from accelerate.state import AcceleratorState

    before = dict(AcceleratorState._shared_state)
    for device in ("meta", "cpu"):
        processes = Processes(torch.device(device))
        assert (processes.world, processes.rank, processes.main, processes.device.type) == (1, 0, True, device)
    objective = NaturalObjective(make_classifier())
    assert processes.wrap(objective) is objective
    assert processes.any([True, False]) == [True, False]
    assert processes.from_main("x") == "x"
    assert AcceleratorState._shared_state == before == {}


def launched(rank: int, port: int, out: Path) -> int:
    """The id of a process of its own, told what torchrun tells it, that works; forked, so that it has PyTorch."""
    if child := os.fork():
        return child
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "LOCAL_WORLD_SIZE": PROCESSES}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": True}
    told: dict[str, object] = {**ranks, **meeting, "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(value) for name, value in told.items()}
    status = 1
    try:
        work(out)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    import accelerate  # noqa: F401
    import torch._dynamo  # as the first optimiser does: once here, not in each process
    from torch._C._distributed_c10d import TCPStore

    torch.set_num_threads(1)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = [launched(rank, store.port, Path(sys.argv[1])) for rank in range(PROCESSES)]
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
