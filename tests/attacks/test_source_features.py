"""Attacks by someone who has the source: through features alone, and against what holds a network near them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_helpers import LINF, Batch, Function, first
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.attacks import APGD, FeatureLoss, Knowledge, SourceFeatures, Victim
from robust_transfer.attacks.apgd import climb
from robust_transfer.attacks.source_features import away, towards
from robust_transfer.classifier import Classifier, Features
from robust_transfer.errors import ConfigError
from robust_transfer.threat import Threat

SMALL = Threat(norm="linf", eps=0.03)


@pytest.fixture(scope="module")
def source() -> Classifier:
    return make_classifier(seed=1).eval()


@pytest.fixture(scope="module")
def model(source: Classifier) -> Classifier:
    """The source's features under a head of its own, of the many random ones one that tells some classes apart."""
    return source.with_head(10, seed=7).eval()


@pytest.fixture(scope="module")
def own(model: Classifier, batch: Batch) -> Batch:
    """Images with the labels that the model gives them."""
    x, _, ids = first(batch, 64)
    with torch.no_grad():
        return x, model(x).argmax(1), ids


@pytest.fixture(scope="module")
def known(source: Classifier, model: Classifier, batch: Batch) -> Knowledge:
    x = batch[0][100:140]
    with torch.no_grad():
        return Knowledge(source, x, model(x).argmax(1))


def test_the_source_alone_breaks_what_hides_its_gradient(model: Classifier, own: Batch, known: Knowledge) -> None:
    hidden = Function(lambda x: model(x).detach())
    assert APGD(steps=10)(hidden, *own, SMALL).broken.sum() < 5
    found = SourceFeatures(steps=10)(hidden, *own, SMALL, knowledge=known)
    assert found.broken.sum() >= 15
    assert (SMALL.size(found.adversarial - own[0]) <= SMALL.eps + 1e-6).all()


def test_images_to_come_close_to_break_more_than_going_away_alone(
    model: Classifier, own: Batch, known: Knowledge
) -> None:
    tiny = Threat(norm="linf", eps=0.01)
    alone, both = (SourceFeatures(steps=10, images=k)(model, *own, tiny, knowledge=known).broken.sum() for k in (0, 3))
    assert both > alone


def test_aims_are_the_nearest_features_of_other_classes(own: Batch, known: Knowledge) -> None:
    x, labels, _ = own
    source = Victim(Features(known.source), torch.device("cpu"))
    clean, theirs = source.logits(x), source.logits(known.images)
    aims = SourceFeatures(images=2)._aims(source, clean, labels, known.images, known.labels)
    for z, label, chosen in zip(clean, labels, aims, strict=True):
        others = theirs[known.labels != label]
        nearest = (others - z).norm(dim=1).argsort()[:2]
        torch.testing.assert_close(chosen, others[nearest])
    same = SourceFeatures(images=2)._aims(source, clean[:1], labels[:1], known.images[:1], labels[:1])
    assert torch.equal(same[0], clean[:1])  # no image of another class: it stays where it is


def test_distances_by_hand() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert away(a, b).tolist() == [25.0]
    assert towards(a, b).tolist() == [-25.0]


def test_what_is_climbed_is_cross_entropy_and_the_features_drift(
    model: Classifier, own: Batch, known: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def watched(target: Victim, on: Any, loss: Any, *rest: Any, **more: Any) -> Tensor:
        seen.append((on, loss, more["guide"]))
        return climb(target, on, loss, *rest, **more)

    monkeypatch.setattr("robust_transfer.attacks.feature_loss.climb", watched)
    x, labels, ids = own
    FeatureLoss(steps=3, weight=2.0)(model, x, labels, ids, SMALL, knowledge=known)
    [(_, loss, guide)] = seen
    with torch.no_grad():
        z, z0 = model.features(x[:5]), known.source.features(x[:5])
        moved = torch.rand(5, z.shape[1], generator=torch.Generator().manual_seed(0))
        logits = model.classify(z + moved)
        wrong = logits.softmax(1).gather(1, labels[:5, None]).squeeze(1)
        expected = ((1 - wrong) / wrong).log() + 2.0 * (z + moved - z0).norm(dim=1) / z0.norm(dim=1)
        aim = torch.cat([z0, labels[:5, None].float(), torch.ones(5, 1)], 1)
        torch.testing.assert_close(loss(torch.cat([logits, z + moved], 1), aim), expected, rtol=1e-3, atol=1e-3)
        assert guide.logits(x[:5]).shape == (5, 10 + z.shape[1])


def test_without_a_drift_it_is_auto_pgd(model: Classifier, own: Batch, known: Knowledge) -> None:
    """Of weight 0 it climbs what Auto-PGD climbs: as many break."""
    plain = APGD(steps=20)(model, *own, Threat(norm="linf", eps=0.004)).broken.sum()
    drift = FeatureLoss(steps=20, weight=0.0)(model, *own, Threat(norm="linf", eps=0.004), knowledge=known).broken.sum()
    assert abs(int(plain) - int(drift)) <= 3


@pytest.mark.parametrize("attack", [SourceFeatures(steps=2), FeatureLoss(steps=2)], ids=str)
def test_modes_are_restored_and_costs_counted(
    attack: SourceFeatures | FeatureLoss, model: Classifier, own: Batch, known: Knowledge
) -> None:
    model.train()
    known.source.train()
    result = attack(model, *own, SMALL, knowledge=known)
    assert all(m.training for m in (*model.modules(), *known.source.modules()))
    assert all(p.requires_grad for p in known.source.parameters())
    assert result.passes > 64 * 4
    model.eval()
    known.source.eval()


def test_without_the_source_there_is_a_sentence(network: nn.Module, model: Classifier, own: Batch) -> None:
    for attack in (SourceFeatures(), FeatureLoss()):
        with pytest.raises(ConfigError, match="source that the model was transferred from"):
            attack(model, *own, LINF)
    with pytest.raises(ConfigError, match="features of the same size"):
        FeatureLoss()(Function(model), *own, LINF, knowledge=Knowledge(make_classifier(), own[0], own[1]))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"images": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SourceFeatures(**wrong)
