"""AutoLoRa against its formula in plain PyTorch, and the accuracies that set its weights."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, batch_of, gradients_differ, make_classifier, make_source, pgd_examples
from torch import nn

from robust_transfer.classifier import Classifier
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run
from robust_transfer.strategies import AutoLoRa
from robust_transfer.strategies.autolora import AutoLoRaObjective, accuracy
from robust_transfer.strategies.low_rank import LowRank
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")
EXACT = Run(precision="float32", quiet=True, device="cpu")


def objective_on(classifier: Classifier, epoch: int = 40, start: float = 0.25) -> AutoLoRaObjective:
    branch = LowRank(classifier, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for b in branch.b:  # as if it had learned something
            b.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    made: dict[str, Any] = {"steps": 2, "step": 0.25, "scale": 6.0, "accuracy": start, "epoch": epoch}
    return AutoLoRaObjective(classifier, branch, THREAT, EXACT, **made)


def layers(body: nn.Module) -> list[Any]:
    return [part for part in body.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]


def test_a_step_is_its_formula(task: Task) -> None:
    """In plain PyTorch: a network whose body is copied without gradients, and products that are added by hand."""
    ours = make_classifier().train()
    plain, objective, batch = ours.copy().train(), objective_on(ours), batch_of(task, 0)
    x, y = pgd_examples(plain, batch, THREAT.eps, 2), batch.labels
    out = objective(batch)

    body, a, b = copy.deepcopy(plain.body).requires_grad_(False), objective.branch.a, objective.branch.b
    products = [[part.detach().clone().requires_grad_(True) for part in pair] for pair in zip(a, b, strict=True)]
    for layer, (p, q) in zip(layers(body), products, strict=True):
        weight = layer.weight
        del layer.weight
        layer.weight = weight + (q @ p).reshape(weight.shape) / 2
    natural = plain.head(body(plain.normalise(batch.images)))
    attacked = plain(x)
    q, p = natural.softmax(1), attacked.softmax(1)
    divergence = (q * (q.log() - p.log())).sum(1).mean()
    loss = 0.75 * F.cross_entropy(natural, y) + 0.25 * F.cross_entropy(attacked, y) + 6 * 0.25 * divergence
    torch.testing.assert_close(out["loss"], loss, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(out["logits"], attacked, rtol=1e-2, atol=1e-2)
    out["loss"].backward()
    loss.backward()
    assert gradients_differ(ours, plain) < 0.02
    for found, (_, wanted) in zip(b, products, strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, rtol=2e-2, atol=2e-3)


def test_the_branchs_accuracy_of_an_epoch_weighs_the_next(task: Task) -> None:
    objective = objective_on(make_classifier().train())
    for step, flags in enumerate(([1.0] * 12 + [0.0] * 8, [1.0] * 4 + [0.0] * 16, [1.0] * 20)):
        objective._right = torch.tensor(flags)
        objective.after_backward(lambda rows: rows)
        wanted = (0.25, 16 / 40, 16 / 40)[step]  # of 40 images, then of the third batch nothing yet
        assert float(objective.accuracy) == pytest.approx(wanted)
    assert float(objective.seen) == 20
    assert {"accuracy", "right", "seen"} <= set(objective.state_dict()), "a resumed run knows them"
    batch = batch_of(task, 0)
    out = objective(batch)
    parts = 0.6 * out["natural_loss"] + 0.4 * out["adversarial_loss"] + 6 * 0.4 * out["divergence"]
    torch.testing.assert_close(out["loss"], parts)


def test_right_answers_are_those_of_the_branch_on_natural_images(task: Task) -> None:
    ours, batch = make_classifier().train(), batch_of(task, 0)
    objective = objective_on(ours)
    with torch.no_grad():
        natural = objective.branch(ours.copy().train(), batch.images)
    objective(dataclasses.replace(batch, weights=torch.full((20,), 0.5)))
    assert torch.equal(objective._right, 0.5 * (natural.argmax(1) == batch.labels).float())
    assert objective._right.sum() > 0


def test_an_epochs_accuracy_is_its_own() -> None:
    objective = objective_on(make_classifier(), epoch=4)
    found = []
    for right in ([1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]):
        objective._right = torch.tensor(right)
        objective.after_backward(lambda values: values)
        found.append(float(objective.accuracy))
    assert found[1:3] == [0.75, 0.75], "known at the end of the epoch, and then for the whole of the next"
    assert found[3] == 0.25


def test_training_begins_with_the_accuracy_of_the_start(task: Task) -> None:
    source = make_source(threat="linf:8/255")
    strategy = AutoLoRa(augment=False, steps=1, batch_size=50)
    start = strategy.start(source, task, QUIET)
    minimised = strategy.objective(source, start, task, QUIET)
    objective = minimised.objective
    assert isinstance(objective, AutoLoRaObjective)
    with torch.no_grad():
        said = start.classifier.eval()(to_pixels(task.train.images())).argmax(1)
    share = float((said == task.train.labels).float().mean())
    assert (
        float(objective.accuracy)
        == pytest.approx(share)
        == pytest.approx(accuracy(start.classifier, task.train, QUIET))
    )
    assert objective.epoch == 100  # whole batches of the 128 images
    assert minimised.cost.passes == 128
    assert objective.branch.rank == 8


def test_settings_that_make_no_sense() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"rank": 0}, {"scale": -1.0})
    for settings in wrong:
        with pytest.raises(ConfigError, match="rank of at least 1"):
            AutoLoRa(**settings)
