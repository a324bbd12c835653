"""Numbers that are not finite: caught in the step in which they appear, recorded, repeated, taken again in float32."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import log_of, make_classifier, same_state
from torch import Tensor, nn
from training_helpers import RUN, settings

from robust_transfer.data import Task
from robust_transfer.errors import CheckpointError, ConfigError, DivergedError
from robust_transfer.run import Run
from robust_transfer.training import Batch, FitResult, NaturalObjective, fit
from robust_transfer.training.before import Before
from robust_transfer.training.fault import FILE
from robust_transfer.training.finite import bits, first_not_finite

AT = 3
LAYER = "classifier.body.conv1"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_tensor_that_is_not_finite_is_named(value: float) -> None:
    fine, odd, numbers = torch.full((3,), 3e38), torch.tensor([1.0, value]), torch.arange(3)
    assert first_not_finite([("a", fine), ("n", numbers), ("none", torch.empty(0))]) is None
    found = first_not_finite([("a", fine), ("b", odd), ("c", odd)])
    assert found is not None
    assert found[0] == "b"


def test_bits_tell_one_nan_from_another() -> None:
    plain = torch.tensor([math.nan, 1.0])
    other = (plain.view(torch.int32) ^ 1).view(torch.float32)
    assert bool(other[0].isnan())
    assert bits(plain) == bits(plain.clone()) != bits(torch.stack([other[0], plain[1]]))


def test_a_step_is_taken_back_whole() -> None:
    """Weights, statistics, moments and random numbers are those of before, after a first step and after a later one."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    optimizer = torch.optim.Adam(network.parameters())
    before = Before(network, optimizer, torch.device("cpu"))

    def step() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = network(torch.rand(8, 3)).square().sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(3):
        before.keep()
        losses, states = [], []
        for _ in range(2):
            losses.append(step())
            states.append({name: values.clone() for name, values in before.changing()})
            before.restore()
        assert torch.equal(*losses)
        assert all(torch.equal(values, states[1][name]) for name, values in states[0].items())
        step()


# ---------------------------------------------------------------- faults


class Faulty(NaturalObjective):
    """Natural training; at step 3 ``spoil`` is done to it, every time."""

    def __init__(self, spoil: Callable[[Faulty, Batch, dict[str, Tensor]], None], low_only: bool = False) -> None:
        super().__init__(make_classifier(), collapse_patience=400)
        self.spoil, self.low_only = spoil, low_only

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        now = batch.step == AT and (torch.is_autocast_enabled("cpu") or not self.low_only)
        self.now = now
        out = super().forward(batch)
        if now:
            self.spoil(self, batch, out)
        return out


def loss(_: Faulty, __: Batch, out: dict[str, Tensor]) -> None:
    out["loss"] = out["loss"] * math.inf


def logits(_: Faulty, __: Batch, out: dict[str, Tensor]) -> None:
    out["logits"] = torch.cat([out["logits"][:-1], out["logits"][-1:] / 0])


def gradient(_: Faulty, __: Batch, out: dict[str, Tensor]) -> None:
    out["loss"].register_hook(lambda values: values * math.nan)


def statistic(objective: Faulty, _: Batch, __: dict[str, Tensor]) -> None:
    next(m for m in objective.modules() if isinstance(m, nn.BatchNorm2d)).running_var.data.fill_(math.inf)  # type: ignore[union-attr]


def weight(objective: Faulty, _: Batch, __: dict[str, Tensor]) -> None:
    bias = objective.classifier.get_parameter("head.bias")
    bias.data.fill_(-3.4e38)
    bias.register_hook(lambda values: torch.full_like(values, 3e38) if objective.now else values)


SPOILT = {
    "the loss is not a number": loss,
    "the logits hold what is not a number": logits,
    "the gradient of classifier.body.conv1.weight is not a number": gradient,
    "running_var is not a number after the step": statistic,
    "classifier.head.bias is not a number after the step": weight,
}


def trained(objective: NaturalObjective, task: Task, run: Run = RUN) -> FitResult:
    return fit(objective, task.train, settings(epochs=1, learning_rate=0.5, schedule="constant", batch_size=40), run)


@pytest.mark.parametrize("what", SPOILT)
def test_what_is_not_finite_ends_training_in_its_step_and_is_repeated_bit_for_bit(
    what: str, digits_task: Task, tmp_path: Path
) -> None:
    run = dataclasses.replace(RUN, out=tmp_path)
    with pytest.raises(DivergedError, match=rf"{what} at step 3, at rate 0\.125.*--replay repeats that step"):
        trained(Faulty(SPOILT[what]), digits_task, run)
    events = [record["event"] for record in log_of(tmp_path) if "event" in record]
    assert len(events) == 3
    assert all(event.startswith("step 3: ") and what in event for event in events)
    assert not (tmp_path / "model.safetensors").exists()
    left = sorted(path.name for path in tmp_path.iterdir())
    again = dataclasses.replace(run, resume=True, replay=True)
    with pytest.raises(
        DivergedError, match=rf"step 3 again, at rate 0\.125: .*{what}.*the same as recorded, bit for bit"
    ):
        trained(Faulty(SPOILT[what]), digits_task, again)
    with pytest.raises(CheckpointError, match=r"all numbers are finite, and .* was recorded: not reproduced"):
        trained(Faulty(lambda *_: None), digits_task, again)
    with pytest.raises(CheckpointError, match="seed was 0 and is now 1"):
        trained(Faulty(SPOILT[what]), digits_task, dataclasses.replace(again, seed=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert FILE in left


def test_the_layer_that_shows_it_first_is_named(digits_task: Task, tmp_path: Path) -> None:
    class Deep(Faulty):
        def __init__(self) -> None:
            super().__init__(lambda *_: None)
            spoilt = self.get_submodule(f"{LAYER}")
            spoilt.register_forward_hook(lambda _, __, out: out * math.inf if self.now else out)

    run = dataclasses.replace(RUN, out=tmp_path)
    with pytest.raises(DivergedError):
        trained(Deep(), digits_task, run)
    with pytest.raises(DivergedError, match=rf"first in the output of {LAYER}"):
        trained(Deep(), digits_task, dataclasses.replace(run, resume=True, replay=True))


# ---------------------------------------------------------------- bfloat16


def test_a_step_that_fails_in_bfloat16_only_is_taken_again_in_float32(digits_task: Task) -> None:
    low = dataclasses.replace(RUN, precision="bfloat16")
    for spoil in (loss, gradient):
        result = trained(Faulty(spoil, low_only=True), digits_task, low)
        [event] = result.events
        assert event.startswith("step 3: ")
        assert event.endswith(" in bfloat16; the step was taken again in float32")
    assert not same_state(result.classifier, trained(Faulty(loss, low_only=True), digits_task).classifier)


def test_after_three_such_steps_all_are_taken_in_float32(digits_task: Task) -> None:
    class Always(Faulty):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            return super().forward(dataclasses.replace(batch, step=AT))

    counted = list[bool]()

    def spoil(_: Faulty, __: Batch, out: dict[str, Tensor]) -> None:
        counted.append(torch.is_autocast_enabled("cpu"))
        loss(_, __, out)

    low = dataclasses.replace(RUN, precision="bfloat16")
    result = trained(Always(spoil, low_only=True), digits_task, low)
    assert len(result.events) == 3
    assert result.events[-1].endswith("taken again in float32, as are all steps from here on")
    assert len(counted) == 3
    with pytest.raises(DivergedError, match="the loss is not a number"):
        trained(Always(spoil), digits_task, low)


def test_replay_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give out and resume=True"):
        Run(replay=True)
