"""A run that is killed at any moment goes on to the same weights and the same log, or says why it cannot."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from children import with_helpers
from helpers import log_of, make_classifier, make_digits, same_state
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.data import Task
from robust_transfer.errors import CheckpointError
from robust_transfer.pretraining import Fast, Free, Natural
from robust_transfer.pretraining.free import FreeObjective
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, FitResult, NaturalObjective, TrainingSettings, fit, state

STATE = Path("state", "state.safetensors")
SHARED: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 20,
    "learning_rate": 0.05,
    "guard_every": 3,
}  # 20 steps, 5 an epoch


class Stopped(Exception):  # noqa: N818 (it is no error)
    """An interruption from within."""


def kill() -> None:
    """What nothing in a process can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    raise Stopped


class Interrupted:
    """A mixin of objectives that ends training in the middle of a step."""

    at, how = -1, staticmethod(stop)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step == self.at:
            self.how()
        terms: dict[str, Tensor] = super().forward(batch)  # type: ignore[misc]
        return terms


class WithDropout(nn.Module):
    """Dropout before a network: training then depends on PyTorch's generator."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.drop, self.body = nn.Dropout(0.2), body

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.drop(x))
        return logits


class Unsteady(Interrupted, NaturalObjective):
    """Natural training that diverges once, at step 14: to be repeated where it was not saved, and not where it was."""

    calm = True

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = super().forward(batch)
        if batch.step == 14 and self.calm:
            self.calm = False
            out["loss"] = out["loss"] * torch.nan
        return out


class Adversarial(Interrupted, AdversarialObjective):
    pass


class Replayed(Interrupted, FreeObjective):
    pass


def scene(name: str, out: Path, *, at: int = -1, how: Callable[[], None] = stop, resume: bool = False) -> FitResult:
    """20 steps: natural with dropout, selection and a divergence, fast with an average of weights and a guard, or free."""
    task = make_digits(train=100)
    run = Run(precision="float32", quiet=True, out=out, resume=resume, device="cpu")
    classifier, settings = make_classifier(), TrainingSettings(**SHARED, select="clean")
    objective: Unsteady | Adversarial | Replayed
    if name == "natural":
        objective = Unsteady(Classifier(WithDropout(classifier.body), classifier.head, classifier.spec), 400)
    elif name == "free":
        objective = Replayed(classifier, Threat.parse("linf:8/255"), replays=3, step=1.0, slots=20)
        settings = Free(**SHARED, replays=3)
    else:
        threat, guarded = Threat.parse("linf:8/255"), task.train.subset(torch.arange(16))
        objective = Adversarial(classifier, threat, run, steps=1, step=1.25, guarded=guarded)
        settings = Fast(**SHARED, ema=0.8)
    objective.at, objective.how = at, how
    torch.manual_seed(0)
    return fit(objective, task.train, settings, run, validate=figures)


def figures(classifier: Classifier) -> dict[str, float]:
    """A stand-in for accuracy: anything that goes up and down with the weights."""
    return {"clean_accuracy": 1e3 * float(classifier.get_parameter("head.weight").detach().abs().sum()) % 1}


NAMES = ("natural", "fast", "free")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int]]:
    """A folder that each scene was killed in, and at which step: a process each, forked from one that has PyTorch."""
    folder, random_ = tmp_path_factory.mktemp("killed"), random.SystemRandom()
    ends = {name: (folder / name, random_.randrange(1, 20)) for name in NAMES}
    scenes = [f"{name}:{at}" for name, (_, at) in ends.items()]
    command = [sys.executable, __file__, str(folder), *scenes]
    child = subprocess.run(command, capture_output=True, text=True, timeout=300, env=with_helpers())
    assert child.returncode == 0, child.stderr
    assert json.loads(child.stdout) == [-signal.SIGKILL] * len(NAMES), child.stderr
    return ends


Wholes = Callable[[str], tuple[FitResult, Path]]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """A scene from its beginning to its end, and its folder: each is played once."""

    @functools.cache
    def whole(name: str) -> tuple[FitResult, Path]:
        folder = tmp_path_factory.mktemp("whole")
        return scene(name, folder), folder

    return whole


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_goes_on_bit_for_bit(name: str, killed: dict[str, tuple[Path, int]], wholes: Wholes) -> None:
    folder, at = killed[name]
    resumed = scene(name, folder, resume=True)
    whole, its_folder = wholes(name)
    assert same_state(resumed.classifier, whole.classifier), f"killed at step {at}"
    assert log_of(folder) == log_of(its_folder), f"killed at step {at}"
    for field in ("figures", "best_epoch", "events", "images", "passes"):
        assert getattr(resumed, field) == getattr(whole, field), f"{field}, killed at step {at}"
    first, second = (load_file(f / STATE) for f in (folder, its_folder))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def interrupted(tmp_path: Path, name: str = "natural", at: int = 12) -> Path:
    with pytest.raises(Stopped):
        scene(name, tmp_path, at=at)
    return tmp_path


def test_the_interrupted_step_was_not_lost(tmp_path: Path) -> None:
    """The state is from the end of the second epoch, and holds all that the future depends on."""
    tensors = load_file(interrupted(tmp_path, "fast") / STATE)
    prefixes = {name.partition(".")[0] for name in tensors}
    assert prefixes == {"objective", "optimizer", "averaged", "generator"}
    with safe_open(tmp_path / STATE, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
    assert progress["step"] == 10
    assert progress["logged"] < (tmp_path / "metrics.jsonl").stat().st_size


def test_a_finished_state_gives_the_result_again(tmp_path: Path) -> None:
    first = scene("natural", tmp_path)
    again = scene("natural", tmp_path, resume=True)
    assert same_state(again.classifier, first.classifier)
    assert (first.earlier_seconds, again.earlier_seconds) == (0.0, first.seconds)
    for field in dataclasses.fields(first):
        if field.name not in ("classifier", "earlier_seconds"):
            assert getattr(again, field.name) == getattr(first, field.name), field.name


def test_resuming_nothing_is_starting(wholes: Wholes, tmp_path: Path) -> None:
    assert same_state(scene("free", tmp_path, resume=True).classifier, wholes("free")[0].classifier)


def rewrite(folder: Path, change: Callable[[dict[str, str]], object], drop: str | None = None) -> None:
    with safe_open(folder / STATE, framework="pt") as file:
        metadata = dict(file.metadata())
    tensors = load_file(folder / STATE)
    if drop:
        del tensors[drop]
    change(metadata)
    save_file(tensors, folder / STATE, metadata)


def test_a_state_of_an_older_version_is_gone_on_with(wholes: Wholes, tmp_path: Path) -> None:
    """It lacks the newer fields of progress, the log's length among them, and newer keys of the fingerprint."""

    def age(metadata: dict[str, str]) -> None:
        progress, fingerprint = (json.loads(metadata[k]) for k in ("progress", "fingerprint"))
        for name in ("one_class", "several", "last", "validation_passes", "validation_examples", "logged"):
            del progress[name]
        del fingerprint["precision"]
        metadata.update(progress=json.dumps(progress), fingerprint=json.dumps(fingerprint))

    folder = interrupted(tmp_path, "fast")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "loss": 1.0}\n{"step": 12, "lo')
    rewrite(folder, age)
    resumed, (whole, its_folder) = scene("fast", folder, resume=True), wholes("fast")
    assert same_state(resumed.classifier, whole.classifier)
    assert log_of(folder) == log_of(its_folder)


# ---------------------------------------------------------------- refusals


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted in its second epoch."""
    return interrupted(tmp_path_factory.mktemp("started"), at=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, "settings.learning_rate was 0.05 and is now 0.1"),
        ({"select": "last"}, "settings.select was 'clean' and is now 'last'"),
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"network": "wrn_16_2"}, "network.name was 'wrn_16_1' and is now 'wrn_16_2'"),
        ({"train": 99}, "data was '"),
        ({"precision": "bfloat16"}, "precision was 'torch.float32' and is now 'torch.bfloat16'"),
    ],
)
def test_a_run_of_other_settings_is_refused_naming_the_setting(
    started: Path, changes: dict[str, Any], message: str
) -> None:
    before = (started / STATE).read_bytes(), (started / "metrics.jsonl").read_bytes()
    settings = {k: v for k, v in changes.items() if k in TrainingSettings.__dataclass_fields__}
    made = TrainingSettings(**{**SHARED, "select": "clean", **settings})
    run = Run(
        precision=changes.get("precision", "float32"), seed=changes.get("seed", 0), out=started, resume=True, quiet=True
    )
    objective = Unsteady(make_classifier(name=changes.get("network", "wrn_16_1")), 400)
    with pytest.raises(CheckpointError, match=rf"cannot resume .*: {message}.*; give the settings of the earlier run"):
        fit(objective, make_digits(train=changes.get("train", 100)).train, made, run, validate=figures)
    assert ((started / STATE).read_bytes(), (started / "metrics.jsonl").read_bytes()) == before


def spoil_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def spoil_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def spoil_progress(path: Path) -> None:
    rewrite(path.parent.parent, lambda metadata: metadata.update(progress='{"stop": 3}'))


@pytest.mark.parametrize("spoil", [spoil_file, spoil_metadata, spoil_progress])
def test_a_state_that_cannot_be_read_is_refused(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    interrupted(tmp_path, at=7)
    spoil(tmp_path / STATE)
    with pytest.raises(CheckpointError, match=r"the resume state .* cannot be read .*: start again with --overwrite"):
        scene("natural", tmp_path, resume=True)


def test_a_state_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, at=7)
    rewrite(tmp_path, lambda metadata: None, drop="objective.classifier.head.bias")
    with pytest.raises(CheckpointError, match=r"the resume state does not fit"):
        scene("natural", tmp_path, resume=True)


def test_a_run_without_resume_does_not_look_at_the_state(wholes: Wholes, tmp_path: Path) -> None:
    interrupted(tmp_path, "free")
    assert same_state(scene("free", tmp_path).classifier, wholes("free")[0].classifier)


def test_discarding_takes_what_a_kill_left_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    state.discard(tmp_path)
    folder.mkdir()
    for name in ("state.safetensors", ".state.safetensors.0123456789ab", ".tmpAb12_Z"):
        (folder / name).write_text("")
    (folder / "mine.txt").write_text("")
    state.discard(tmp_path)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    state.discard(tmp_path)
    assert not folder.exists()


# ---------------------------------------------------------------- whole methods


def test_a_finished_pretraining_is_not_repeated(digits_task: Task, tmp_path: Path) -> None:
    method = Natural(epochs=1, batch_size=64, flip=False)
    settings: dict[str, Any] = {"network": "wrn_16_1", "threat": "linf:2/255"}
    first = method(digits_task, **settings, run=Run(out=tmp_path, quiet=True))
    assert not (tmp_path / "state").exists()
    stamp = (tmp_path / "card.json").stat().st_mtime_ns
    again = method(digits_task, **settings, run=Run(out=tmp_path, quiet=True, resume=True))
    assert again.card == first.card
    assert same_state(again.classifier, first.classifier)
    assert (tmp_path / "card.json").stat().st_mtime_ns == stamp
    other = Natural(epochs=2, batch_size=64, flip=False)
    with pytest.raises(CheckpointError, match=r"settings.epochs was 1.0 and is now 2.0"):
        other(digits_task, **settings, run=Run(out=tmp_path, quiet=True, resume=True))


def test_another_threat_is_another_run(digits_task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threat is no setting of training, but what training is for."""

    def interrupt(*_: object) -> None:
        raise Stopped

    def train(threat: str, **how: Any) -> None:
        method = Fast(epochs=2, batch_size=64, guard_every=2)
        method(digits_task, network="wrn_16_1", threat=threat, run=Run(out=tmp_path, quiet=True, **how))

    with monkeypatch.context() as patched:
        patched.setattr("robust_transfer.training.loop.SAVE_SECONDS", -1.0)  # save at every look of the guard
        patched.setattr("robust_transfer.monitor.Validation.__call__", interrupt)
        with pytest.raises(Stopped):
            train("linf:4/255")
    with pytest.raises(CheckpointError, match="threat was 'linf:4/255' and is now 'linf:8/255'"):
        train("linf:8/255", resume=True)


def ended(folder: Path, name: str, at: int) -> int:
    """How a process of its own ends that plays a scene up to a step, where it kills itself."""
    if not (child := os.fork()):
        scene(name, folder / name, at=at, how=kill)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    import torch._dynamo  # as the first optimiser does: once here, not in each process

    scenes = [text.split(":") for text in sys.argv[2:]]
    print(json.dumps([ended(Path(sys.argv[1]), name, int(at)) for name, at in scenes]))
