"""Every option of every command, given values that make no sense: one sentence, status 2, and nothing is lost.

The commands' own signatures are walked, so that a new option is covered: give it a place in FINE where a value makes sense.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
import typer
from cli_helpers import Invoke
from foreign_states import written as save_foreign
from helpers import make_source
from published import CASES
from study_helpers import written

from robust_transfer import run_folder
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.cli import app
from robust_transfer.data import load_task
from robust_transfer.errors import RobustTransferError
from robust_transfer.evaluation import evaluate
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.run import Run
from robust_transfer.study.work import Workshop

BAD: dict[type, tuple[str, ...]] = {
    int: ("-1", "0", "1.5", "nan", "", "9" * 30),
    float: ("-1", "nan", "inf", "-inf", "", "1e400", "0"),
    str: ("", " ", "nan", "-1"),
    Path: ("", " "),
    list: ("", "=1", "nothing=1", "epochs"),
}
SETTINGS = ("epochs=nan", "epochs=.inf", "epochs=-1", "epochs=[1]", "batch_size=0", "batch_size=1.5", "learning_rate=")
MORE = {
    "--set": SETTINGS,
    "--threat": ("linf:nan", "linf:inf", "linf:-1", "linf:8", "l2", "l2:", "l1:1"),
    "--time-limit": ("nan", "inf", "0", "-1s", "soon", "s"),
    "--curve": (",", "8/255,", "1/0", "nan", "-1"),
    "--also": ("l2:nan", "linf:8", "l2", "l1:1", "linf:8/255,l2:0.5"),
    "--certify": (
        "smoothing:sigma=0",
        "smoothing:sigma=nan",
        "smoothing:n=0",
        "smoothing:n0=-1",
        "smoothing:alpha=0.5",
        "smoothing:alpha=0",
        "smoothing:",
        "smoothing+",
        "feature-shift:sigma=1",
        "feature-shift:examples=0",
    ),
    "--attack": ("pgd", "pgd-0", "pgd--1", "pgd-2:step=nan", "pgd-2:restarts=0", "pgd-2:", "pgd-2+"),
    "--shard": ("0/2", "3/2", "1/0", "a/b"),
    "--val": ("0.6",),
    "--device": ("cuda:-1", "meta"),
    "--contact-sheet": (".", "sheet.jpg"),
    "--class-weights": ("even",),
    "--by": ("accuracy", "Robust"),
}
PRECIOUS = dict.fromkeys(("metrics.jsonl", "model.safetensors"), "precious")
FINE: set[tuple[str, ...]] = {
    ("--seed", "0"),
    ("--val", "0"),
    ("--red-flag-examples", "0"),
    ("--transfer-attack-examples", "0"),
    ("--checks", "0"),
    ("--beyond", "0"),
    ("--batch-size", "9" * 30),  # all images at once
    *(
        (f"--{name}", "9" * 30)
        for name in ("examples", "red-flag-examples", "transfer-attack-examples", "checks", "beyond")
    ),
    ("--attack", "pgd"),
    ("compare", "--seed", "9" * 30),
    ("rank", "--examples", "9" * 30),  # all of them
    ("study", "--data", "nothing=1"),  # another recipe may need it, and this one says what it lacks
    *(("predict", f"--{name}", "9" * 30) for name in ("top", "classes")),  # all of them
    *(("push", f"--{name}", text) for name in ("dataset", "base-model", "licence") for text in ("nan", "-1")),  # names
    *(("report", "--data", text) for text in ("nan", "-1")),  # the page says that no image is there
    ("--ray", "nan"),  # what is an address the cluster says
    ("--ray", "-1"),
}


class ReachedError(RobustTransferError):
    """The command would have begun to work."""

    exit_status = 99


def options() -> Iterator[tuple[str, str, type]]:
    """Command, option and the type of its values; flags have none."""
    group: Any = typer.main.get_command(app)
    callbacks = {
        info.name or str(getattr(info.callback, "__name__", "")): info.callback for info in app.registered_commands
    }
    for name, command in group.commands.items():
        hints = get_type_hints(callbacks[name])
        for parameter in command.params:
            kind = hints[parameter.name]
            if get_origin(kind) in (Union, types.UnionType):
                [kind] = [part for part in get_args(kind) if part is not type(None)]
            kind = str if get_origin(kind) is Literal else get_origin(kind) or kind  # typed as any text is
            kind = str if issubclass(kind, Enum) else kind
            if parameter.param_type_name == "option" and kind is not bool:
                yield name, parameter.opts[0], kind


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, images: Path) -> dict[str, Path]:
    """A source of two classes, an evaluation of it, and a tiny study's recipe."""
    root = tmp_path_factory.mktemp("places")
    torch.manual_seed(0)
    classifier = Classifier.build(
        NetworkSpec(name="wrn_16_1", num_classes=2, preprocessing=Preprocessing(size=8))
    ).eval()
    card = Card(
        network=classifier.spec,
        class_names=("dark", "light"),
        method="made",
        threat=make_source(threat="linf:8/255").card.threat,
    )
    source = Checkpoint(classifier, card).save(root / "source")
    run = Run(out=root / "evaluation", quiet=True)
    evaluate(source, load_task(images).test, attack="fgsm", run=run, keep_deltas=True, red_flag_examples=0)
    foreign = save_foreign(root / "weights.pt", CASES["kuangliu"][1]())
    made = {"source": root / "source", "evaluation": root / "evaluation", "foreign": foreign}
    return {**made, "recipe": written(root), "images": images}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run folder that somebody wants to keep."""
    with Run(out=tmp_path / "out").at_work():
        for name in ("metrics.jsonl", "model.safetensors"):
            (tmp_path / "out" / name).write_text("precious")
    return tmp_path / "out"


def line(command: str, places: dict[str, Path], out: Path, *given: str | Path) -> list[str | Path]:
    """A command line that would work, but for what is ``given``."""
    source, data = places["source"], ("--data", places["images"])
    writes: tuple[str | Path, ...] = ("--out", out, "--overwrite", "--quiet")
    positional, others = {
        "transfer": ((), ("--source", source, *data, "--strategy", "fine-tune", *writes)),
        "pretrain": ((), (*data, "--network", "wrn-16-1", *writes)),
        "evaluate": ((source,), (*data, *writes)),
        "verify": ((places["evaluation"], source), data),
        "compare": ((places["evaluation"], places["evaluation"]), ()),
        "data": ((places["images"],), ("--quiet",)),
        "inspect": ((places["foreign"],), (*data, "--set", "activation=relu", "--normalisation", "none")),
        "import": (
            (places["foreign"],),
            (*data, "--set", "activation=relu", "--normalisation", "none", *writes),
        ),
        "study": ((places["recipe"],), ("--out", out.parent / "study", "--quiet")),
        "doctor": ((), ("--quiet",)),
        "report": ((places["evaluation"],), ("--out", out.parent / "page.html", "--quiet")),
        "predict": ((source, places["images"]), ("--quiet",)),
        "export": ((source,), ("--to", "onnx", "--out", out.parent / "model.onnx", "--quiet")),
        "push": ((source, "owner/name"), ("--dry-run", out.parent / "pushed", "--quiet")),
        "demo": ((), (*data, "--source", source, "--no-scratch", *writes)),
        "choose": ((), (*data, "--source", source, *writes)),
        "rank": ((source,), (*data, "--val", "0.5", "--quiet")),
    }[command]
    words: list[str | Path] = [command, *positional]
    takes_value = [
        word for word in others if str(word).startswith("--") and word not in ("--overwrite", "--quiet", "--no-scratch")
    ]
    for word in takes_value:
        if word not in given:
            words += [word, others[others.index(word) + 1]]
    words += [word for word in others if word in ("--overwrite", "--quiet", "--no-scratch") and word not in given]
    return [*words, *given]


@pytest.fixture
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise ReachedError("it would begin to work")

    monkeypatch.setattr(run_folder, "prepare_out", reached)
    monkeypatch.setattr(Workshop, "done", reached)
    for work in (
        "doctor.diagnosis.speeds",
        "report.page.page",
        "prediction.predictor._Predictor.predictions",
        "ranking.ranker._ranked",
        "exporting.onnx_file.to_proto",
        "publishing.publisher._write",
    ):
        monkeypatch.setattr(f"robust_transfer.{work}", reached)
    monkeypatch.setattr("robust_transfer.data.survey.describe.look_through", reached)
    monkeypatch.setattr("robust_transfer.foreign.deciding.decide", reached)
    monkeypatch.setattr("robust_transfer.evaluation.verification.attacking", reached)
    monkeypatch.setattr("robust_transfer.comparison.Comparison", reached)


def refused(invoke: Invoke, words: list[str | Path], out: Path) -> str:
    """What is wrong with how a command line ended, or nothing."""
    status, _, err = invoke(*words)
    wrong = []
    if status != 2:
        wrong.append(f"status {status}")
    if "Traceback" in err or not 10 < len(err.strip()) < 1500:
        wrong.append(f"says {err!r}")
    if {path.name: path.read_text() for path in out.iterdir()} != PRECIOUS:
        wrong.append("the folder was touched")
    return ", ".join(wrong)


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize("command", sorted({command for command, _, _ in options()}))
def test_the_lines_would_work(invoke: Invoke, places: dict[str, Path], out: Path, command: str) -> None:
    assert invoke(*line(command, places, out))[0] == 99


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize(("command", "option", "kind"), list(options()))
def test_bad_values(invoke: Invoke, places: dict[str, Path], out: Path, command: str, option: str, kind: type) -> None:
    wrong = {}
    for value in (*BAD[kind], *MORE.get(option, ())):
        if not {(option, value), (command, option, value)} & FINE:
            found = refused(invoke, line(command, places, out, option, value), out)
            if found:
                wrong[value] = found
    assert not wrong


@pytest.mark.usefixtures("nothing_is_made")
@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("transfer", ("--resume",)),
        ("pretrain", ("--resume",)),
        ("evaluate", ("--resume",)),
        ("transfer", ("--shots", "100000")),
        ("transfer", ("--val", "0", "--set", "select=robust")),
        ("transfer", ("--val", "0", "--set", "select=clean")),
        ("pretrain", ("--val", "0", "--set", "select=robust")),
        ("transfer", ("--val", "0", "--strategy", "frontier")),
        ("transfer", ("--strategy", "last-blocks", "--set", "blocks=99")),
        ("transfer", ("--strategy", "mlp-head", "--set", "layer_batch_norm=true", "--batch-size", "1")),
        ("transfer", ("--set", "epochs=1", "--set", "epochs=2")),
        ("transfer", ("--set", "preset=none")),
        ("pretrain", ("--network", "resnet18", "--input-size", "2")),
        ("evaluate", ("--split", "val", "--val", "0")),
        ("evaluate", ("--attack", "apgd-t-2", "--source", "nowhere")),
        ("evaluate", ("--red-flag-examples", "1", "--checks", "1")),
        ("evaluate", ("--label-column", "a", "--split-column", "a")),
        ("data", ("--image-column", "a", "--split-column", "a")),
        ("study", ("--jobs", "2", "--shard", "1/2")),
        ("study", ("--jobs", "2", "--ray", "local")),
        ("study", ("--scale", "enormous")),
        ("demo", ("--control", "bundled")),
    ],
)
def test_what_does_not_go_together(
    invoke: Invoke, places: dict[str, Path], out: Path, command: str, more: tuple[str, ...]
) -> None:
    assert not refused(invoke, line(command, places, out, *more), out)


def test_deltas_need_a_folder(invoke: Invoke, places: dict[str, Path]) -> None:
    status, _, err = invoke("evaluate", places["source"], "--data", places["images"], "--quiet", "--keep-deltas")
    assert (status, "give an output folder" in err) == (2, True)
