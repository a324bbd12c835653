"""A batch that does not fit in memory is taken in parts, whose gradients add up to those of the whole."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest
import torch
from helpers import batch_of, make_classifier, make_source
from torch import Tensor
from training_helpers import RUN, natural, settings

import robust_transfer as rt
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task
from robust_transfer.errors import MemoryLimitError
from robust_transfer.pretraining import PRETRAINING
from robust_transfer.threat import Threat
from robust_transfer.training import Batch, FitResult, NaturalObjective, Objective, fit
from robust_transfer.training.parts import gradients

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Tight(NaturalObjective):
    """Natural training with memory for ``most`` images; ``late``: it is the backward pass that runs out."""

    def __init__(self, most: int, late: bool = False) -> None:
        super().__init__(make_classifier(), collapse_patience=400)
        self.most, self.late, self.sizes = most, late, list[int]()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = super().forward(batch)
        self.sizes.append(len(batch.labels))
        if len(batch.labels) > self.most:
            if not self.late:
                raise CUDA
            out["logits"].register_hook(self.fail)
        return out

    def fail(self, _: Tensor) -> Tensor:
        raise CUDA


def trained(objective: Objective, task: Task, held: bool, **changes: Any) -> FitResult:
    objective.classifier.hold_batch_norm = held
    return fit(objective, task.train, settings(epochs=0.5, batch_size=50, **changes), RUN)


@pytest.mark.parametrize("late", [False, True])
def test_parts_give_the_gradients_of_the_whole(digits_task: Task, late: bool) -> None:
    """Batch norm held: three steps end at the same weights, up to rounding; without a limit, bit for bit as ever."""
    task = dataclasses.replace(digits_task, train=digits_task.train.weighted(torch.arange(320) % 3 + 0.5))
    whole = trained(natural(), task, held=True)
    tight = Tight(most=13, late=late)
    parted = trained(tight, task, held=True)
    assert tight.sizes[:3] == [50, 25, 10]
    assert tight.sizes[2:] == [10] * 15, "five parts of one size in each of three steps"
    assert [event.split(";")[1].strip().split(" at")[0] for event in parted.events] == ["25 images", "12 images"]
    assert parted.images == whole.images
    for name, values in whole.classifier.state_dict().items():
        torch.testing.assert_close(parted.classifier.state_dict()[name], values, rtol=1e-4, atol=1e-5)


def test_batch_statistics_of_a_part_are_said(digits_task: Task) -> None:
    parted = trained(Tight(most=30), digits_task, held=False)
    [event] = parted.events
    assert "; 25 images at a time from here on, whose gradients are added up; " in event
    assert event.endswith("; batch-norm statistics are those of a part")
    norms = [v for k, v in parted.classifier.state_dict().items() if k.endswith("num_batches_tracked")]
    assert {int(count) for count in norms} == {6}, "the failed pass has left no trace"


def test_batch_norm_never_sees_one_image(digits_task: Task) -> None:
    """Parts of one image have no statistics: they are of two or more, or training ends in a sentence."""
    tight = Tight(most=2)
    trained(tight, digits_task, held=False)
    assert set(tight.sizes[5:]) == {2}
    with pytest.raises(MemoryLimitError, match="a training step of 2 images does not fit in memory"):
        trained(Tight(most=1), digits_task, held=False)


def test_what_is_no_mean_over_images_is_not_divided(digits_task: Task) -> None:
    objective = Tight(most=13)
    objective.divisible = False
    with pytest.raises(
        MemoryLimitError, match="50 images does not fit in memory, and this method needs the whole batch"
    ):
        trained(objective, digits_task, held=True)


def test_an_image_that_does_not_fit_ends_training_in_a_sentence(digits_task: Task) -> None:
    with pytest.raises(MemoryLimitError, match="a training step of 1 image does not fit in memory: free some"):
        trained(Tight(most=0), digits_task, held=True)


def test_other_errors_are_not_taken_for_it(digits_task: Task) -> None:
    class Broken(NaturalObjective):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trained(Broken(make_classifier()), digits_task, held=True)


@pytest.mark.parametrize("name", [name for name in PRETRAINING.names() if not PRETRAINING.get(name).starts])
def test_a_method_that_is_divisible_has_gradients_that_add_up(name: str, digits_task: Task) -> None:
    """Contract: the parts' gradients are the batch's, or the method says that it needs the whole batch."""
    torch.manual_seed(0)
    method = PRETRAINING.get(name)()
    objective = method.objective(make_classifier(), digits_task, Threat(norm="linf", eps=0.02), RUN)
    objective.classifier.hold_batch_norm = True
    objective.train()
    if not objective.divisible:
        assert name in ("free", "cartl")
        return
    batch, found = batch_of(digits_task, 0), list[Tensor]()
    for parts in (1, 3):
        objective.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        gradients(batch, objective, parts)
        found.append(torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-4


def test_a_transfer_goes_on(
    digits_task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Features of all images, in passes that fit."""
    source, plain = make_source(), Classifier.features

    def features(self: Classifier, x: Tensor) -> Tensor:
        if len(x) > 40:
            raise CUDA
        return plain(self, x)

    wanted = rt.transfer(source, digits_task, rt.LinearProbe(), run=RUN)
    monkeypatch.setattr(Classifier, "features", features)
    with caplog.at_level(logging.INFO):
        found = rt.transfer(source, digits_task, rt.LinearProbe(), run=RUN)
    assert "at a time from here on" in caplog.text
    torch.testing.assert_close(found.classifier.head.weight, wanted.classifier.head.weight, rtol=1e-3, atol=1e-4)
