"""Trackers: TensorBoard's files read back, W&B and the others through modules that note what they are told."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import PartialState
from helpers import make_digits, make_source
from study_helpers import RUN, written
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robust_transfer import tracking
from robust_transfer.checkpoint import Checkpoint, load_checkpoint
from robust_transfer.choosing import choose, chooser, judging
from robust_transfer.choosing.contenders import Contender
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import evaluate
from robust_transfer.pretraining import Natural
from robust_transfer.run import Run
from robust_transfer.strategies import FineTune, Frontier, LinearProbe
from robust_transfer.study import load_recipe, run_study
from robust_transfer.training import loop

SHORT: dict[str, Any] = {"epochs": 2, "batch_size": 16}  # 8 steps an epoch


class Board:
    """A tracker's module: notes what is asked of it. It has what accelerate's classes call of W&B, Trackio and MLflow."""

    def __init__(self, name: str) -> None:
        self.begun, self.logged, self.configured, self.ended = [], [], [], 0  # type: ignore[var-annotated]
        self.defined: list[tuple[Any, ...]] = []
        module: Any = types.ModuleType(name)
        module.init = module.start_run = self.begin
        module.config = types.SimpleNamespace(update=lambda values, **_: self.configured.append(values))
        module.log_params = self.configured.append
        module.log_metrics = self.log
        module.end_run = self.finish
        module.search_experiments = lambda **_: []
        module.create_experiment = lambda **_: "7"
        limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=1000)
        module.utils = types.SimpleNamespace(validation=limits)
        self.module: types.ModuleType = module
        self.info = types.SimpleNamespace(run_id="made-by-the-server")

    def begin(self, **how: Any) -> Board:
        print("* a dashboard is at http://127.0.0.1:7860")
        self.begun.append(how)
        return self

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self.logged.append((step, values))

    def define_metric(self, *words: Any, **more: Any) -> None:
        self.defined.append((*words, more))

    def finish(self) -> None:
        self.ended += 1


def put_up(name: str, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A tracker's package that is installed, so to say."""
    for variable in ("WANDB_PROJECT", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TAGS", "MLFLOW_NESTED_RUN"):
        monkeypatch.delenv(variable, raising=False)
    board = Board(name)
    monkeypatch.setitem(sys.modules, name, board.module)
    return board


def run_in(out: Path | None, *track: str, **how: Any) -> Run:
    return Run(out=out, track=track, quiet=True, device="cpu", precision="float32", **how)


def numbers(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """The numbers of ``metrics.jsonl``, by step."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [(r["step"], {k: v for k, v in r.items() if k not in ("step", "event") and v is not None}) for r in records]
    return [(step, figures) for step, figures in kept if figures]


def by_name(records: list[tuple[int, dict[str, float]]]) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = {}
    for step, figures in records:
        for name, value in figures.items():
            found.setdefault(name, []).append((step, pytest.approx(value, rel=1e-6)))  # stored in float32
    return found


def scalars(folder: Path, board: str = "tensorboard") -> dict[str, list[tuple[int, Any]]]:
    """What TensorBoard shows of a run folder."""
    read = EventAccumulator(str(folder / board))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def finals(checkpoint: Checkpoint) -> dict[str, float]:
    return {f"final/{k}": v for k, v in checkpoint.card.metrics.items() if isinstance(v, float)}


def test_tensorboard_shows_what_the_log_has(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = FineTune(**SHORT)(source, task, run=run_in(out, "tensorboard"))
    assert finals(made)
    assert scalars(out) == by_name([*numbers(out), (16, finals(made))])
    configuration = next((out / "tensorboard").glob("*/hparams.yml")).read_text()
    for line in ("method: transfer:fine-tune", "settings.epochs: 2.0", "data.name: digits", "seed: 0"):
        assert line in configuration
    assert f"source.weights: {source.hash}" in configuration
    assert PartialState._shared_state == {}, "accelerate's global state is not made for it"


def test_a_tracked_folder_can_be_overwritten(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    LinearProbe()(source, task, run=run_in(out, "tensorboard"))
    assert scalars(out).keys() == {"final/l2"}
    LinearProbe()(source, task, run=run_in(out, overwrite=True))
    assert not (out / "tensorboard").exists()
    assert not (out / tracking.RECORD).exists()


def test_a_resumed_run_goes_on_in_the_same_curves(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    board = put_up("wandb", monkeypatch)
    FineTune(**SHORT)(source, task, run=run_in(whole))
    with monkeypatch.context() as patch:
        save = loop._Loop._save

        def kept_once(self: Any) -> None:  # what follows is logged, and lost
            if self.progress.step == 8:
                save(self)

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(loop._Loop, "_save", kept_once)
        patch.setattr(loop._Loop, "_result", stop)
        with pytest.raises(KeyboardInterrupt):
            FineTune(**SHORT)(source, task, run=run_in(out, "tensorboard", "wandb"))
    assert max(step for step, _ in scalars(out)["loss"]) == 16
    made = FineTune(**SHORT)(source, task, run=run_in(out, "tensorboard", "wandb", resume=True))
    shown = scalars(out)
    assert shown == by_name([*numbers(out), (16, finals(made))])
    assert [step for step, _ in shown["loss"]] == [r["step"] for _, r in _with_loss(whole)]
    assert len(list((out / "tensorboard").glob("*/hparams.yml"))) == 1
    first, second = board.begun
    assert first == second, "the same run of W&B"
    assert first["id"] == json.loads((out / tracking.RECORD).read_text())["wandb"]
    assert first["resume"] == "allow"
    assert len(board.configured) == 1
    assert board.ended == 2


def _with_loss(folder: Path) -> list[tuple[int, dict[str, float]]]:
    return [(step, {"step": step, **figures}) for step, figures in numbers(folder) if "loss" in figures]


def test_wandb_is_told_the_step_as_a_figure(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, out = put_up("wandb", monkeypatch), tmp_path / "run"
    made = FineTune(**SHORT)(source, task, run=run_in(out, "wandb"))
    told = [*numbers(out), (16, finals(made))]
    assert board.logged == [(None, {"step": step, **figures}) for step, figures in told]
    assert board.defined == [("*", {"step_metric": "step"})]
    assert (board.begun[0]["project"], board.begun[0]["name"]) == ("robust-transfer", "run")


def test_mlflow_is_told_and_gone_on_with(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, out = put_up("mlflow", monkeypatch), tmp_path / "run"
    made = Natural(**SHORT)(task, network="wrn-16-1", run=run_in(out, "mlflow"))
    assert board.logged == [*numbers(out), (16, finals(made))]
    assert board.configured[0]["method"] == "pretrain:natural"
    assert board.configured[0]["network.name"] == "wrn_16_1"
    assert board.begun[0]["run_id"] is None
    evaluation = evaluate(made, task.val, attack="fgsm", red_flag_examples=0, run=run_in(out, "mlflow"))
    assert board.begun[1]["run_id"] == "made-by-the-server", "an evaluation in the run's folder is in its tracker's run"
    figures = board.logged[-1][1]
    assert figures["evaluation/robust_accuracy"] == evaluation.robust_accuracy.value
    assert figures["evaluation/clean_accuracy_low"] == evaluation.clean_accuracy.low
    assert figures["evaluation/n"] == 40
    assert len(board.configured) == 1


def test_an_evaluation_alone_is_a_run_of_its_own(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = put_up("trackio", monkeypatch)
    evaluate(source, task.val, attack="fgsm", red_flag_examples=0, run=run_in(None, "trackio"))
    assert board.begun[0]["name"].startswith("evaluation-")
    assert board.configured[0]["attack"] == "fgsm"
    assert board.configured[0]["model_hash"]
    assert [step for step, _ in board.logged] == [None]
    assert capsys.readouterr().out == "", "standard output is for results"


def test_without_a_folder_the_trackers_are_told_all_the_same(
    source: Checkpoint, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = put_up("trackio", monkeypatch)
    FineTune(**SHORT)(source, task, run=run_in(None, "trackio"))
    FineTune(**SHORT)(source, task, run=run_in(tmp_path / "run"))
    without = [(s, {k: v for k, v in f.items() if k != "seconds"}) for s, f in board.logged[:-1]]
    assert without == [(s, {k: v for k, v in f.items() if k != "seconds"}) for s, f in numbers(tmp_path / "run")]
    assert board.begun[0]["name"].startswith("transfer:fine-tune-")


def test_trainings_of_a_frontier_are_told_apart(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = put_up("trackio", monkeypatch)
    Frontier(**Frontier.quick)(source, task, run=run_in(None, "trackio"))
    names = {name for _, figures in board.logged for name in figures}
    assert {"l2-0.1-strength-1/loss", "front/val_robust_accuracy", "final/chosen.val_clean_accuracy"} <= names
    assert "loss" not in names
    assert [step for step, figures in board.logged if "front/l2" in figures] == [1, 2, 3]


@pytest.mark.parametrize("at", ["begin", "log", "finish"])
def test_a_tracker_that_fails_ends_no_training(
    at: str,
    source: Checkpoint,
    task: Task,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no login\nand a page of advice")

    monkeypatch.setattr(Board, at, fail)
    put_up("wandb", monkeypatch)
    out = tmp_path / "run"
    FineTune(**SHORT)(source, task, run=run_in(out, "wandb", "tensorboard"))
    assert load_checkpoint(out).card.method == "transfer:fine-tune"
    assert scalars(out)["loss"], "the other one is told to the end"
    assert "final/val_clean_accuracy" in scalars(out)
    said = "note: wandb stopped tracking (no login): the run goes on without it\n"
    told = capsys.readouterr().err.splitlines(keepends=True)
    assert [line for line in told if "dashboard" not in line] == [said], "once, and in one line"


def test_other_processes_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    board = put_up("wandb", monkeypatch)
    monkeypatch.setattr(tracking, "is_main_process", lambda: False)
    with tracking.tracked(("wandb",), None, title="x", configuration={}, resume=False):
        assert not tracking.is_on()
        tracking.log({"step": 1, "loss": 2.0})
    assert not board.begun


def test_what_is_no_number_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    board = put_up("mlflow", monkeypatch)
    with tracking.tracked(("mlflow",), None, title="x", configuration={"a": {"b": [1, "x" * 999]}}, resume=False):
        tracking.log({"step": 1, "event": "went back"})
        assert not board.begun, "nothing to tell yet"
        tracking.log({"step": 2, "loss": float("nan"), "rate": 0.1, "event": "x", "flag": True})
    assert board.logged == [(2, {"rate": 0.1})]
    assert board.configured[0].keys() == {"a.b"}
    assert len(board.configured[0]["a.b"]) == tracking.MAX_TEXT


def test_names_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    put_up("wandb", monkeypatch)
    assert run_in(Path("x"), "tensorboard, wandb", "wandb").track == ("tensorboard", "wandb")
    assert Run(track="wandb").track == ("wandb",)  # type: ignore[arg-type]
    assert Run().track == ()
    with pytest.raises(ConfigError, match="unknown tracker 'wandbb': did you mean 'wandb'"):
        Run(track=("wandbb",))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"mlflow is an extra: pip install 'robust-transfer\[mlflow\]'"):
        Run(track=("mlflow",))


def test_tensorboard_wants_a_folder(source: Checkpoint, task: Task) -> None:
    with pytest.raises(ConfigError, match="give an output folder"):
        LinearProbe()(source, task, run=run_in(None, "tensorboard"))
    with pytest.raises(ConfigError, match="give an output folder"):
        evaluate(source, task.val, run=run_in(None, "tensorboard"))


def test_each_contender_of_a_choice_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board, out = put_up("wandb", monkeypatch), tmp_path / "mine"
    for each in (chooser, judging):
        monkeypatch.setattr(each, "FINAL", "pgd-3")
    weak = Contender("source 1", "weak", LinearProbe(l2=1e-4), shares=True)
    monkeypatch.setattr(chooser, "closer_look", lambda _: [weak])
    run = run_in(out, "tensorboard", "wandb")
    task = make_digits(train=64, val=20, test=10)
    found = choose(task, sources=[make_source(threat="linf:2/255")], seconds=600, run=run)
    first = "source-1-linear-probe-l2-by-log-loss"
    ids: dict[str, set[str]] = {}
    for how in board.begun:
        ids.setdefault(how["name"], set()).add(how["id"])
    assert ids.keys() == {f"mine-{first}", "mine-source-1-weak", "mine"}
    assert [len(one) for one in ids.values()] == [1, 1, 1], "what is found of a contender goes to its own run"
    assert len(set.union(*ids.values())) == 3, "and to no other's"
    assert not (out / "tried").exists()
    shown = {one.name: scalars(out, f"tensorboard/{one.folder}") for one in found.choice.tried}
    for one in found.choice.tried:
        for attack, share in (("quick", one.robust), ("pgd-3", one.final_robust)):
            told = shown[one.name].get(f"{attack}/evaluation/robust_accuracy", [])
            assert told == ([(0, pytest.approx(share.value))] if share is not None else [])
    assert found.choice.best.final_robust is not None
    assert found.evaluation is not None
    own = EventAccumulator(str(next((out / "tensorboard").glob("events*"))))
    own.Reload()
    [event] = own.Scalars("evaluation/robust_accuracy")
    assert event.value == pytest.approx(found.evaluation.robust_accuracy.value)
    again = dataclasses.replace(run, overwrite=True, track=())
    choose(task, sources=[make_source(threat="linf:2/255")], seconds=0.01, run=again)
    assert not (out / "tensorboard").exists(), "what was tracked is known as ours, and removed with the rest"


def test_each_cell_of_a_study_is_a_run_that_one_process_writes(tmp_path: Path) -> None:
    recipe, out = load_recipe(written(tmp_path), scale="smoke"), tmp_path / "study"
    run = dataclasses.replace(RUN, track=("tensorboard",))
    table = run_study(recipe, out, run=run, jobs=2)
    boards = sorted(path.name for path in (out / "tensorboard").iterdir())
    made = [f"tiny-robust-few-probe-l2={l2}-seed-0" for l2 in (0.01, 1.0)]
    wanted = [*(name for one in made for name in (one, f"{one}-near")), "tiny-source-robust"]
    assert sorted(name.rpartition("-")[0] for name in boards) == sorted(wanted)
    for name in boards:
        processes = {path.name.split(".")[5] for path in (out / "tensorboard" / name).rglob("events*")}
        assert len(processes) == 1, "no two processes write to one run"
        if "-near-" in name:
            [row] = [row for row in table.to_dict("records") if f"l2={row['set.l2']}-" in name]
            figures = scalars(out, f"tensorboard/{name}")
            assert figures["evaluation/robust_accuracy"] == [(0, pytest.approx(row["robust"]))]
    before = {path: path.read_bytes() for path in (out / "tensorboard").rglob("events*")}
    run_study(recipe, out, run=run)
    assert {path: path.read_bytes() for path in (out / "tensorboard").rglob("events*")} == before
