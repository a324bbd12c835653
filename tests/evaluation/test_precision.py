"""The precision of an evaluation's steps: chosen, said, kept when it goes on, and never the verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robust_transfer.attacks import Attack, parse_attack
from robust_transfer.data import Split
from robust_transfer.engine import Engine
from robust_transfer.errors import OutputError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation, precision
from robust_transfer.run import Run

N = 12
QUICK = {"attack": "pgd-2", "threat": "linf:0.1", "red_flag_examples": 0}


class TwoFaced(nn.Module):
    """A margin of its own in each precision, once the image is no longer grey."""

    def __init__(self, low: float, exact: float) -> None:
        super().__init__()
        self.low, self.exact = low, exact

    def forward(self, x: Tensor) -> Tensor:
        off = (x - 128 / 255).flatten(1).abs().amax(1) > 1e-4
        margin = self.low if torch.is_autocast_enabled("cpu") else self.exact
        value = torch.where(off, margin, -1.0) + 0 * x.flatten(1).sum(1)
        return torch.stack([-value, value], 1)


@pytest.fixture
def grey() -> Split:
    return Split.in_memory(torch.full((N, 3, 4, 4), 128, dtype=torch.uint8), torch.zeros(N).long(), ("a", "b"))


def run(asked: str = "bfloat16", out: Path | None = None, *, resume: bool = False) -> Run:
    return Run(precision=asked, device="cpu", quiet=True, out=out, resume=resume)  # type: ignore[arg-type]


def test_breaks_that_only_the_steps_see_are_counted_and_are_none(grey: Split) -> None:
    found = evaluate(TwoFaced(1.0, -0.5), grey, run=run(), **QUICK)  # type: ignore[arg-type]
    assert found.precision == "bfloat16"
    assert found.robust_accuracy.value == 1
    assert found.disagreement == {"unconfirmed_iterates": 2 * N, "missed_examples": 0}
    assert f"{2 * N} iterates broke it in bfloat16 only" in str(found)


def test_breaks_that_only_float32_sees_are_counted_and_are_some(grey: Split) -> None:
    found = evaluate(TwoFaced(-0.5, 1.0), grey, run=run(), **QUICK)  # type: ignore[arg-type]
    assert found.robust_accuracy.value == 0
    assert found.disagreement == {"unconfirmed_iterates": 0, "missed_examples": N}


def test_in_float32_there_is_nothing_to_disagree(grey: Split, tmp_path: Path) -> None:
    found = evaluate(TwoFaced(1.0, -0.5), grey, run=run("float32", tmp_path), **QUICK)  # type: ignore[arg-type]
    assert found.disagreement is None
    assert "precision        float32 steps, float32 verdicts\n" in str(found)
    assert load_evaluation(tmp_path).disagreement is None


def test_it_is_read_back(grey: Split, tmp_path: Path) -> None:
    found = evaluate(TwoFaced(1.0, -0.5), grey, run=run(out=tmp_path), **QUICK)  # type: ignore[arg-type]
    assert load_evaluation(tmp_path).disagreement == found.disagreement


@pytest.mark.parametrize("finished", [True, False])
def test_what_goes_on_goes_on_in_its_precision(
    grey: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    model = TwoFaced(1.0, -0.5)

    def begin(asked: str, *, resume: bool = False) -> Evaluation:
        return evaluate(model, grey, run=run(asked, tmp_path, resume=resume), batch_size=4, **QUICK)  # type: ignore[arg-type]

    if finished:
        begin("bfloat16")
    else:
        real, calls = Attack.__call__, []

        def dies(*given: object, **settings: object) -> object:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*given, **settings)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(Attack, "__call__", dies)
            with pytest.raises(KeyboardInterrupt):
                begin("bfloat16")
    with pytest.raises(OutputError, match="precision 'bfloat16'"):
        begin("float32", resume=True)
    monkeypatch.setattr(precision, "choose", None)  # nothing is chosen anew
    assert begin("auto", resume=True).precision == "bfloat16"


def test_the_float32_stage_is_run_where_the_steps_are_not_float32_already() -> None:
    suite = parse_attack("strong")
    stages = [str(attack) for attack in precision.without_repetition(suite, Engine(torch.bfloat16))]
    assert stages == [str(attack) for attack in suite]
    assert suite[-1].precision == "float32"
    exact = [str(attack) for attack in precision.without_repetition(suite, Engine())]
    assert exact == stages[:-1]
    alone = parse_attack("pgd-2:precision=float32")
    assert precision.without_repetition(alone, Engine()) == alone  # nothing else has done it
