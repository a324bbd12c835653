"""``fit`` goes back to the last good state where training does not go well."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import log_of, make_classifier
from torch import Tensor
from training_helpers import PLAIN, RUN, Scripted, settings

from robust_transfer.data import Split, Task
from robust_transfer.errors import DivergedError
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, NaturalObjective, fit

# ---------------------------------------------------------------- divergence


class Mishap(NaturalObjective):
    """Natural training to which something happens: ``what(out)`` at the given steps, each time once (or ``always``)."""

    def __init__(self, steps: tuple[int, ...], what: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        super().__init__(make_classifier(), collapse_patience=1)
        self.waiting, self.what = list(steps), what
        self.seen: list[tuple[int, dict[str, Tensor]]] = []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append((batch.step, {k: v.clone() for k, v in self.classifier.state_dict().items()}))
        logits = self.classifier(batch.images)
        logits = torch.cat([logits[:1].detach() + F.one_hot(torch.tensor([3]), 10) * 1e3, logits[1:]])  # two classes
        out = {"loss": F.cross_entropy(logits[1:], batch.labels[1:]), "logits": logits}
        if batch.step in self.waiting:
            self.waiting.remove(batch.step)
            out = self.what(out)
        return out

    def states_at(self, step: int) -> list[dict[str, Tensor]]:
        return [state for at, state in self.seen if at == step]


def is_nan(out: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**out, "loss": out["loss"] * math.nan}


def explodes(out: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**out, "loss": out["loss"] * 1e3}


def collapses(out: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**out, "logits": F.one_hot(torch.full((len(out["logits"]),), 4), 10).float()}


def has_nan_gradients(out: dict[str, Tensor]) -> dict[str, Tensor]:
    out["loss"].register_hook(lambda gradient: gradient * math.nan)
    return out


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (is_nan, "the loss is not a number"),
        (explodes, r"the loss exploded ("),
        (collapses, "all predictions are one class"),
    ],
)
def test_a_divergence_is_caught_at_its_step_and_undone(
    digits_task: Task, tmp_path: Path, what: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str
) -> None:
    objective = Mishap((8,), what)
    run = Run(precision="float32", quiet=True, out=tmp_path)
    result = fit(objective, digits_task.train, settings(schedule="constant"), run)
    assert [step for step, _ in objective.seen] == [*range(9), *range(6, 12)]
    assert len(result.events) == 1
    assert result.events[0].startswith(f"step 8: {named}")
    assert result.events[0].endswith("; went back to step 6, learning rate halved to 0.025")
    before, after = objective.states_at(6)
    assert equal(before, after), "the state that training went back to is the one it had"
    assert {r["event"] for r in log_of(tmp_path) if "event" in r} == set(result.events)
    rates = {r["step"]: r["rate"] for r in log_of(tmp_path) if "rate" in r}
    assert (rates[6], rates[12]) == (0.05, 0.025)
    assert result.images == 14 * 50, "what was undone was spent all the same"


def test_a_divergence_before_the_first_epoch_goes_back_to_the_start(digits_task: Task) -> None:
    objective = Mishap((2,), is_nan)
    result = fit(objective, digits_task.train, PLAIN, RUN)
    assert "went back to step 0" in result.events[0]
    assert equal(*objective.states_at(0))


def test_momentum_is_restored_too(digits_task: Task) -> None:
    """At half the rate nothing else may differ: the first step after going back is half as long, momentum included."""
    flat = settings(schedule="constant", weight_decay=0.0)
    disturbed = Mishap((6,), is_nan)
    fit(disturbed, digits_task.train, flat, RUN)
    undisturbed = Mishap((), is_nan)
    fit(undisturbed, digits_task.train, flat, RUN)
    start, key = undisturbed.states_at(6)[0], "head.weight"
    full = undisturbed.states_at(7)[0][key] - start[key]
    half = disturbed.states_at(7)[0][key] - start[key]
    torch.testing.assert_close(half, full / 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("at", [7, 5, 11])
@pytest.mark.parametrize("ema", [None, 0.5])
def test_nan_gradients_never_reach_a_state_to_go_back_to(digits_task: Task, at: int, ema: float | None) -> None:
    """In the middle of an epoch; before the end of one, where the state is load_or_compute; and in the very last step."""
    objective = Mishap((at,), has_nan_gradients)
    script = Scripted(clean_accuracy=[0.5, 0.5, 0.5])
    result = fit(objective, digits_task.train, settings(ema=ema), RUN, validate=script)
    assert len(result.events) == 1
    what = "the loss is not a number" if at == 7 else "weights are not numbers"
    went_back = 0 if at == 5 else 6
    assert result.events[0].startswith(f"step {at + 1}: {what}; went back to step {went_back}")
    assert equal(*objective.states_at(went_back)[:2])
    states = [result.classifier.state_dict(), *script.seen, objective.states_at(went_back)[1]]
    assert all(bool(v.isfinite().all()) for state in states for v in state.values())


@pytest.mark.parametrize("what", [is_nan, has_nan_gradients])
def test_training_gives_up_at_the_third_divergence(
    digits_task: Task, tmp_path: Path, what: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    objective = Mishap((7, 7, 7), what)
    with pytest.raises(
        DivergedError, match=r"training diverged 3 times .* at rate 0\.0125\): nothing was saved"
    ) as caught:
        fit(
            objective,
            digits_task.train,
            settings(schedule="constant"),
            Run(precision="float32", quiet=True, out=tmp_path),
        )
    assert caught.value.exit_status == 3
    events = [r["event"] for r in log_of(tmp_path) if "event" in r]
    assert [event.rpartition(", ")[2].rpartition("; ")[2] for event in events] == [
        "learning rate halved to 0.025",
        "learning rate halved to 0.0125",
        "gave up",
    ]
    assert not (tmp_path / "model.safetensors").exists()


def test_a_network_that_begins_with_one_class_is_given_time(digits_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new head may predict one class at first; to come back to one class later is a collapse."""
    monkeypatch.setattr("robust_transfer.training.loop.UNTRAINED_BATCHES", 10)
    begins = Mishap(tuple(range(9)), collapses)
    assert fit(begins, digits_task.train, PLAIN, RUN).events == ()
    stays = Mishap(tuple(range(10)), collapses)
    (event,) = fit(stays, digits_task.train, PLAIN, RUN).events
    assert event.startswith("step 9: all predictions are one class; went back to step 6")


def test_a_state_in_the_middle_of_a_collapse_is_not_gone_back_to(digits_task: Task) -> None:
    objective = Mishap((4, 5, 6), collapses)
    objective.collapse_patience = 3
    (event,) = fit(objective, digits_task.train, PLAIN, RUN).events
    assert event.startswith("step 6: all predictions are one class; went back to step 0")


# ---------------------------------------------------------------- the guard


class Guarded(AdversarialObjective):
    """Fast adversarial training whose guard reads its figures from a script.

    The loss is no number, once, at the training step and with the number of attack steps that ``nan_at`` names.
    """

    def __init__(self, script: list[tuple[float, float]], nan_at: tuple[int, int] | None = None) -> None:
        threat = Threat(norm="linf", eps=0.1)
        super().__init__(make_classifier(), threat, RUN, steps=1, step=1.25, guarded=empty_split())
        self.nan_at, self.seen = nan_at, list[tuple[int, int]]()
        self.figures = iter([figure for pair in script for figure in pair])

    def _accuracy(self, attack: Any, engine: Any) -> float:
        self.spent += 10
        return next(self.figures)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append((batch.step, int(self.steps)))
        out = super().forward(batch)
        if self.seen[-1] == self.nan_at:
            self.nan_at = None
            out["loss"] = out["loss"] * math.nan
        return out


def empty_split() -> Split:
    return Split.in_memory(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("0",))


GOOD, BAD = (0.5, 0.45), (0.8, 0.1)
GUARD = settings(epochs=1.5, guard_every=3, schedule="constant", learning_rate=0.01)  # 9 steps, guarded at 3, 6, 9


def test_overfitting_goes_back_and_takes_one_more_step(digits_task: Task, tmp_path: Path) -> None:
    objective = Guarded([GOOD, BAD, GOOD, GOOD])
    result = fit(objective, digits_task.train, GUARD, Run(precision="float32", quiet=True, out=tmp_path))
    assert result.events == (
        "step 6: catastrophic overfitting (FGSM accuracy 0.80, PGD-5 accuracy 0.10); went back to step 3, "
        "adversarial examples now take 2 steps",
    )
    assert objective.seen == [(s, 1) for s in range(6)] + [(s, 2) for s in range(3, 9)]
    guarded = [r["guard_pgd_accuracy"] for r in log_of(tmp_path) if "guard_pgd_accuracy" in r]
    assert guarded == [0.45, 0.1, 0.45, 0.45]
    assert result.passes == 50 * (6 * 5 + 6 * 7) + 4 * 20, "steps cost 3 + 2 an attack step, and the guard what it says"


def test_no_state_is_kept_that_the_guard_has_not_looked_at(digits_task: Task) -> None:
    """An epoch is 6 steps: what went wrong by its end must not be what step 8 goes back to."""
    script = settings(epochs=1.5, guard_every=4, schedule="constant", learning_rate=0.01)
    result = fit(Guarded([GOOD, BAD, GOOD, GOOD, GOOD]), digits_task.train, script, RUN)
    [event] = result.events
    assert event.startswith("step 6: catastrophic overfitting")
    assert "went back to step 4" in event


def test_each_reaction_goes_further_although_the_state_is_the_same(digits_task: Task) -> None:
    objective = Guarded([BAD, BAD, GOOD, GOOD, GOOD])
    result = fit(objective, digits_task.train, GUARD, RUN)
    assert [event.rpartition(" now take ")[2] for event in result.events] == ["2 steps", "3 steps"]
    assert [steps for step, steps in objective.seen if step == 0] == [1, 2, 3]


def test_a_reaction_survives_a_divergence(digits_task: Task) -> None:
    objective = Guarded([BAD, GOOD, GOOD, GOOD], nan_at=(1, 2))
    result = fit(objective, digits_task.train, GUARD, RUN)
    assert "now take 2 steps" in result.events[0]
    assert "the loss is not a number; went back to step 0" in result.events[1]
    assert [steps for step, steps in objective.seen if step == 0] == [1, 2, 2]


def test_the_guard_gives_up(digits_task: Task) -> None:
    objective = Guarded([BAD] * 4)
    with pytest.raises(DivergedError, match=r"catastrophic overfitting .* again after every countermeasure"):
        fit(objective, digits_task.train, GUARD, RUN)
    assert [steps for step, steps in objective.seen if step == 0] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("fgsm", "pgd", "overfits"), [(0.8, 0.1, True), (0.8, 0.7, False), (0.1, 0.0, False), (0.5, 0.3, False)]
)
def test_what_counts_as_overfitting(fgsm: float, pgd: float, overfits: bool) -> None:
    what, figures = Guarded([(fgsm, pgd)]).guard()
    assert bool(what) == overfits
    assert figures == {"guard_fgsm_accuracy": fgsm, "guard_pgd_accuracy": pgd}
