"""FARE's stage against its formula, and what becomes of the start: features held, head kept, labels unread."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_classifier, make_digits
from torch import Tensor

from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.pretraining import FARE, Natural
from robust_transfer.pretraining.fare import FAREObjective
from robust_transfer.run import Run
from robust_transfer.strategies import Adversarial
from robust_transfer.threat import Threat
from robust_transfer.training import Batch

RUN = Run(precision="float32", quiet=True, device="cpu")
THREAT = Threat.parse("linf:8/255")
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 20, "augment": False, "steps": 1, "step": 1.0}


@pytest.fixture(scope="module")
def task() -> Task:
    return make_digits(train=60, val=20, test=0)


@pytest.fixture(scope="module")
def start(task: Task) -> Checkpoint:
    settings: dict[str, Any] = {"epochs": 6, "batch_size": 20, "augment": False, "learning_rate": 0.05}
    return Natural(**settings)(task, network="wrn_16_1", run=RUN)


@pytest.fixture
def batch(task: Task) -> Batch:
    some = torch.arange(16)
    return Batch(to_pixels(task.train.fetch(some)), task.train.labels[some], task.train.ids[some], some, 5)


def moved(start: Checkpoint) -> Classifier:
    """The start after some training: its features differ from the start's."""
    classifier = start.classifier.copy()
    with torch.no_grad():
        for p in classifier.parameters():
            p.mul_(1.02)
    return classifier


def test_examples_are_crafted_by_the_formula(start: Checkpoint, batch: Batch) -> None:
    objective = FAREObjective(start.classifier.copy(), THREAT, RUN, steps=3, step=0.5)
    objective.classifier.load_state_dict(moved(start).state_dict())
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    found = objective.train().craft(batch)
    now, first, x, eps = moved(start).eval(), start.classifier, batch.images, THREAT.eps
    current = THREAT.random_start(x, batch.ids, seed=0, purpose="fare", step=5)
    for _ in range(3):
        current = current.detach().requires_grad_(True)
        distance = (now.features(current) - first.features(x).detach()).pow(2).sum()
        (gradient,) = torch.autograd.grad(distance, current)
        current = (x + (current + 0.5 * eps * gradient.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    assert ((found - current.detach()).abs() > 1e-6).float().mean() < 0.01
    assert all(torch.equal(v, before[k]) for k, v in objective.state_dict().items()), "no statistic moves"
    assert objective.classifier.training


@pytest.mark.parametrize("held", [True, False])
def test_the_loss_and_its_gradient_are_the_formula(start: Checkpoint, batch: Batch, held: bool) -> None:
    method = FARE(steps=2, step=0.5, batch_norm="eval" if held else "train")
    objective = method.objective(start.classifier.copy(), make_digits(train=40), THREAT, RUN).train()
    assert isinstance(objective, FAREObjective)
    crafted, plain = objective.craft(batch), start.classifier.copy().train(not held)
    wanted = start.classifier.features(batch.images).detach()
    distance = (plain.features(crafted) - wanted).pow(2).sum(1)
    loss = distance.mean() / wanted.pow(2).sum(1).mean()
    loss.backward()
    out = objective(batch)
    out["loss"].backward()
    torch.testing.assert_close(out["loss"], loss, rtol=1e-4, atol=1e-6)
    for (name, p), other in zip(objective.classifier.named_parameters(), plain.parameters(), strict=True):
        if name.startswith("head."):
            assert p.grad is None
            continue
        assert p.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert objective.passes_per_image == 3 + 1 + 2 * 2


def drift(network: Classifier, start: Checkpoint, batch: Batch) -> float:
    """Mean squared distance that five steps find, to the start's features of the clean image."""
    attack = FAREObjective(start.classifier.copy(), THREAT, RUN, steps=5, step=0.5)
    attack.classifier.load_state_dict(network.state_dict())
    z: Tensor = network.eval().features(attack.craft(batch)) - start.classifier.features(batch.images)
    return float(z.pow(2).sum(1).mean().detach())


def test_features_move_less_under_attack_and_the_start_is_untouched(
    start: Checkpoint, task: Task, batch: Batch, tmp_path: Path
) -> None:
    before, state = start.hash, {k: v.clone() for k, v in start.classifier.state_dict().items()}
    run = dataclasses.replace(RUN, out=tmp_path / "fare")
    made = FARE(**{**QUICK, "epochs": 5})(task, threat=THREAT, start=start, run=run)
    assert drift(made.classifier, start, batch) < 0.9 * drift(start.classifier, start, batch)
    assert start.hash == before
    assert all(torch.equal(v, state[k]) for k, v in start.classifier.state_dict().items())
    assert torch.equal(made.classifier.get_parameter("head.weight"), start.classifier.get_parameter("head.weight"))
    card = load_checkpoint(tmp_path / "fare").card
    assert card.source == start.provenance
    assert (card.method, card.threat, card.network) == ("pretrain:fare", THREAT, start.card.network)
    assert card.fingerprints["levels"] == [{"train": 60, "val": 20}] * 2
    assert card.metrics["val_clean_accuracy"] > 0.2
    assert all(p.requires_grad for p in made.classifier.parameters()), "a source like every other: nothing is frozen"


def test_labels_are_not_read(start: Checkpoint, task: Task) -> None:
    split = task.train
    other = Split.in_memory(split.images(), (split.labels + 1) % 10, split.class_names)
    results = [FARE(**QUICK)(dataclasses.replace(task, train=s), threat=THREAT, start=start, run=RUN).classifier
               for s in (split, dataclasses.replace(split, labels=other.labels))]  # fmt: skip
    for a, b in zip(results[0].parameters(), results[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_images_of_other_classes_will_do(start: Checkpoint, task: Task) -> None:
    """Nothing is measured on them: the head tells other classes apart, and keeps their names."""
    card = dataclasses.replace(start.card, class_names=tuple("abcdefghij"))
    foreign = Checkpoint(start.classifier, card, start.trained_on)
    made = FARE(**QUICK)(task, threat=THREAT, start=foreign, run=RUN)
    assert made.card.class_names == tuple("abcdefghij")
    assert not {name for name in made.card.metrics if name.startswith("val_")}
    with pytest.raises(ConfigError, match="select=robust needs a start with the data's classes"):
        FARE(**QUICK, select="robust")(task, threat=THREAT, start=foreign, run=RUN)


def test_a_feature_extractor_will_do(start: Checkpoint, task: Task) -> None:
    classifier = start.classifier.copy()
    with torch.no_grad():
        for p in classifier.head.parameters():
            p.zero_()
    headless = Checkpoint(classifier, dataclasses.replace(start.card, origin={"head": "none"}))
    made = FARE(**QUICK)(task, threat=THREAT, start=headless, run=RUN)
    assert not torch.equal(next(made.classifier.parameters()), next(classifier.parameters()))


def test_a_finished_run_is_of_its_start(start: Checkpoint, task: Task, tmp_path: Path) -> None:
    out = dataclasses.replace(RUN, out=tmp_path / "fare", resume=True)
    first = FARE(**QUICK)(task, threat=THREAT, start=start, run=out)
    assert FARE(**QUICK)(task, threat=THREAT, start=start, run=out).hash == first.hash
    other = Checkpoint(make_classifier(5), Card(network=start.card.network, class_names=task.class_names, method="x"))
    with pytest.raises(CheckpointError, match=r"cannot resume .* source"):
        FARE(**QUICK)(task, threat=THREAT, start=other, run=out)


def test_what_does_not_fit_is_refused(start: Checkpoint, task: Task) -> None:
    calls: tuple[dict[str, Any], ...] = ({"network": "wrn_16_1"}, {"input_size": 12})
    for call in calls:
        with pytest.raises(ConfigError, match="fare trains the network of its start"):
            FARE(**QUICK)(task, threat=THREAT, start=start, run=RUN, **call)
    wrong: tuple[dict[str, Any], ...] = ({"steps": 0}, {"step": 0})
    for settings in wrong:
        with pytest.raises(ConfigError, match="fare needs at least one step"):
            FARE(**settings)
    with pytest.raises(ConfigError, match="'fare' learns no classes: use one of cartl, fast"):
        Adversarial(method="fare")
