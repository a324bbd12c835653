"""CARTL's source against its formula: which features, which distance, what is minimised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, make_digits, same_state
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import CARTL
from robust_transfer.pretraining.cartl import CARTLObjective, cut_of
from robust_transfer.pretraining.objective import AdversarialObjective
from robust_transfer.run import Run
from robust_transfer.threat import Threat
from robust_transfer.training import Batch

RUN = Run(precision="float32", quiet=True, device="cpu")
THREAT = Threat.parse("linf:8/255")


@pytest.fixture(scope="module")
def batch() -> Batch:
    split, some = make_digits(train=40).train, torch.arange(16)
    return Batch(to_pixels(split.fetch(some)), split.labels[some], split.ids[some], some, 5)


def objective_of(classifier: Classifier, blocks: int = 1, weight: float = 0.7) -> CARTLObjective:
    return CARTLObjective(classifier, THREAT, RUN, steps=2, step=0.5, weight=weight, cut=cut_of(classifier, blocks))


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_loss_and_its_gradient_are_the_formula(batch: Batch, blocks: int) -> None:
    classifier = make_classifier().train()
    objective = objective_of(classifier, blocks)
    crafted, plain = objective.craft(batch), classifier.copy().train()
    seen = list[Tensor]()
    names = [set(block) for block in plain.blocks()]
    if blocks > 1:  # the output of the last module below what is retrained, found by its names alone
        below = names[-blocks - 1]
        inside = [m for path, m in plain.named_modules() if {f"{path}.{n}" for n in m.state_dict()} == below]
        inside[0].register_forward_hook(lambda _module, _x, out: seen.append(out))
    logits = plain(crafted)
    plain(batch.images)
    if blocks == 1:
        again = classifier.copy().train()
        seen = [again.features(crafted), again.features(batch.images)]
        plain, logits = again, again.classify(seen[0])
    lengths = [(a - b).pow(2).sum().sqrt() for a, b in zip(*seen, strict=True)]
    wanted = F.cross_entropy(logits, batch.labels) + 0.7 * sum(lengths) / len(lengths)
    wanted.backward()
    out = objective(batch)
    out["loss"].backward()
    torch.testing.assert_close(out["loss"], wanted, rtol=1e-4, atol=1e-5)
    assert float(out["feature_distance"].detach()) > 1e-3
    assert same_state(plain, classifier), "a pass each, the attacked images first: statistics move twice"
    for (name, p), other in zip(classifier.named_parameters(), plain.named_parameters(), strict=True):
        assert p.grad is not None
        assert other[1].grad is not None
        torch.testing.assert_close(p.grad, other[1].grad, rtol=1e-3, atol=1e-5, msg=name)


def test_without_weight_it_is_adversarial_training(batch: Batch) -> None:
    made = []
    for cls in (CARTLObjective, AdversarialObjective):
        classifier = make_classifier().train()
        own: dict[str, Any] = {"weight": 0.0} if cls is CARTLObjective else {}
        objective = cls(classifier, THREAT, RUN, steps=2, step=0.5, **own)
        made.append((objective.craft(batch), objective(batch)["loss"]))
    assert torch.equal(made[0][0], made[1][0])
    torch.testing.assert_close(made[0][1], made[1][1])


def test_training_by_it_shortens_the_distance(batch: Batch) -> None:
    distances = []
    for weight in (0.0, 2.0):
        classifier = make_classifier().train()
        objective = objective_of(classifier, weight=weight)
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            objective(batch)["loss"].backward()
            optimizer.step()
        z, clean = (classifier.eval().features(x) for x in (objective.craft(batch), batch.images))
        distances.append(float(((z - clean).norm(dim=1) / clean.norm(dim=1)).mean().detach()))
    assert distances[1] < 0.9 * distances[0]


def test_the_cut_is_where_the_last_blocks_begin() -> None:
    classifier = make_classifier()
    assert cut_of(classifier, 1) is None
    below = len(classifier.blocks()) - 1
    for blocks in range(2, below + 1):
        module = classifier.get_submodule(str(cut_of(classifier, blocks)))
        assert isinstance(module, nn.Module)
        names = {f"{cut_of(classifier, blocks)}.{name}" for name in module.state_dict()}
        assert names <= set(classifier.blocks()[-blocks - 1])
    with pytest.raises(ConfigError, match="would leave none to train"):
        cut_of(classifier, below + 1)


def test_settings_that_make_no_sense_and_those_that_reach_the_objective() -> None:
    wrong: tuple[dict[str, Any], ...] = ({"steps": 0}, {"step": 0}, {"weight": -1}, {"blocks": 0})
    for settings in wrong:
        with pytest.raises(ConfigError, match="cartl needs at least one step"):
            CARTL(**settings)
    with pytest.raises(ConfigError, match="which compile=true fuses"):
        CARTL(blocks=2, compile=True)
    method = CARTL(weight=0.3, blocks=2, steps=3, step=0.4, awp=0.01)
    made = method.objective(make_classifier(), make_digits(train=40), THREAT, RUN)
    assert isinstance(made, CARTLObjective)
    assert (made.weight, int(made.steps), made.step, made.awp) == (0.3, 3, 0.4, 0.01)
    assert made.cut is not None
    assert made.passes_per_image == 2 * 6 + 2 * 3
