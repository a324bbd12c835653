"""RiFT: criticality against a step-by-step reference and a closed form; one module moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_source, same_state

from robust_transfer.attacks import PGD
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task, to_pixels
from robust_transfer.engine import Engine
from robust_transfer.errors import ConfigError
from robust_transfer.strategies import LinearProbe, RiFT, transfer
from robust_transfer.strategies.curve import Front
from robust_transfer.strategies.rift import criticality, module_names
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")


@pytest.fixture(scope="module")
def robust() -> Classifier:
    return make_source().classifier.with_head(10, seed=1).eval()


@pytest.mark.parametrize("weighted", [False, True])
def test_criticality_is_the_worst_rise_nearby(
    robust: Classifier, task: Task, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.strategies.attacked_val.BATCH", 12)
    if weighted:
        given = task.val.weighted(torch.arange(len(task.val)).double() % 5)
        task = dataclasses.replace(task, val=given)
    found, cost = criticality(robust.copy(), task, THREAT, QUIET, examples=30, steps=3, radius=0.2)
    assert list(found) == module_names(robust)
    sample = task.val.sample(30, seed=0, purpose="rift")
    weights = (sample.weights if sample.weights is not None else torch.ones(30)).float()
    assert (len(weights.unique()) > 2) == weighted
    [(images, labels, ids)] = sample.batches(100)
    with torch.no_grad():
        right = int((robust(to_pixels(images)).argmax(1) == labels).sum())
    assert 0 < right < 30
    assert cost.adversarial_examples == right, "only images that are right when clean are attacked"
    x = PGD(steps=10)(robust.copy(), to_pixels(images), labels, ids, THREAT, seed=0, engine=Engine()).adversarial
    for name in (module_names(robust)[0], module_names(robust)[-1]):
        plain = robust.copy().eval()
        weight = plain.body.get_submodule(name).get_parameter("weight")
        origin = weight.detach().clone()
        bound = 0.2 * origin.norm()
        losses = []
        for _ in range(3):
            loss = (weights * F.cross_entropy(plain(x), labels, reduction="none")).sum() / weights.sum()
            losses.append(float(loss.detach()))
            (slope,) = torch.autograd.grad(loss, weight)
            with torch.no_grad():
                moved = weight - origin + 2 * bound / 3 * slope / slope.norm()
                moved = moved * min(1.0, float(bound / moved.norm()))
                weight.copy_(origin + moved)
            assert float((weight - origin).detach().norm()) <= float(bound) * 1.0001
        last = F.cross_entropy(plain(x), labels, reduction="none").detach()
        losses.append(float((weights * last).sum() / weights.sum()))
        assert found[name] == pytest.approx(max(losses) - losses[0], rel=1e-3, abs=1e-5)
        assert found[name] >= 0


def test_weights_and_flags_are_restored(robust: Classifier, task: Task) -> None:
    frozen = robust.copy().freeze()
    criticality(frozen, task, THREAT, QUIET, examples=10, steps=2, radius=0.5)
    assert same_state(frozen, robust)
    assert not any(p.requires_grad for n, p in frozen.named_parameters() if not n.startswith("head."))


def test_one_module_moves_and_it_is_the_least_critical(source: Checkpoint, task: Task) -> None:
    assert source.card.threat is not None
    strategy = RiFT.from_settings({**RiFT.quick, "epochs": 2, "batch_size": 16, "shares": (0.25, 1.0)})
    front = Front(task, source.card.threat, QUIET)
    strategy.walk(front, source, task, QUIET)
    least = front.notes["module"]
    assert front.notes["criticality"][least] == min(front.notes["criticality"].values())
    probe = transfer(source, task, LinearProbe(l2=0.1), run=QUIET).classifier.state_dict()
    quarter, whole = (point.classifier.state_dict() for point in front.found[1:])
    moved = {name for name, value in whole.items() if not torch.equal(value, probe[name])}
    assert moved == {f"body.{least}.weight"}
    name = f"body.{least}.weight"
    torch.testing.assert_close(quarter[name], probe[name] + 0.25 * (whole[name] - probe[name]))


def test_all_of_it_is_on_the_card(source: Checkpoint, task: Task) -> None:
    card = transfer(source, task, RiFT.from_settings(RiFT.quick), run=QUIET).card
    assert card.metrics["module"] in card.metrics["criticality"]
    assert [point["kind"] for point in card.metrics["front"]] == ["linear-probe", "rift", "rift"]


@pytest.mark.parametrize("wrong", [{"shares": ()}, {"shares": (0.0,)}, {"radius": 0.0}, {"ascent": 0}, {"examples": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(RiFT(), **wrong)  # type: ignore[arg-type]
