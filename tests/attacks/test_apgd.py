"""Auto-PGD, plain and targeted: the paper's schedule, a step-by-step reference, closed forms, and how strong it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attack_helpers import L2, LINF, Batch, Function, Linear, Scaled, constant, first, separated
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robust_transfer.attacks import APGD, PGD, Attack, TargetedAPGD, Victim, apgd_t
from robust_transfer.attacks.apgd import step_checkpoints
from robust_transfer.attacks.base import BestSoFar, highest
from robust_transfer.errors import ConfigError
from robust_transfer.losses import margin
from robust_transfer.threat import Threat


def test_checkpoints_are_the_papers() -> None:
    assert list(step_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(step_checkpoints(1)) == []
    for steps in (2, 5, 20, 33):
        found = step_checkpoints(steps)
        assert sum(found.values()) == max(found) < steps


def reference(
    model: nn.Module, clean: Tensor, label: Tensor, start: Tensor, threat: Threat, steps: int
) -> list[Tensor]:
    """Algorithm 1 of the paper for one image and cross-entropy, line by line: every iterate."""

    def value_and_gradient(x: Tensor) -> tuple[float, Tensor]:
        x = x.detach().requires_grad_(True)
        loss = F.cross_entropy(model(x), label)
        (gradient,) = torch.autograd.grad(loss, x)
        return float(loss.detach()), gradient

    def inside(x: Tensor) -> Tensor:
        delta = x - clean
        if threat.norm == "linf":
            delta = delta.clamp(-threat.eps, threat.eps)
        elif delta.norm() > threat.eps:
            delta = delta * (threat.eps / delta.norm())
        return (clean + delta).clamp(0, 1)

    def upward(gradient: Tensor) -> Tensor:
        return gradient.sign() if threat.norm == "linf" else gradient / gradient.norm()

    at = previous = best = start
    value, gradient = value_and_gradient(at)
    best_value, best_gradient, eta = value, gradient, 2 * threat.eps
    iterates, rises, was_halved, checked = [start], 0, True, value
    intervals = step_checkpoints(steps)
    for k in range(1, steps + 1):
        momentum = 0.75 if k > 1 else 1.0
        z = inside(at + eta * upward(gradient))
        at, previous = inside(at + momentum * (z - at) + (1 - momentum) * (at - previous)), at
        iterates.append(at)
        last, (value, gradient) = value, value_and_gradient(at)
        rises += value > last
        if value > best_value:
            best, best_value, best_gradient = at, value, gradient
        if k in intervals:
            halve = rises < 0.75 * intervals[k] or (not was_halved and best_value <= checked)
            if halve:
                eta, at, gradient = eta / 2, best, best_gradient
            was_halved, checked, rises = halve, best_value, 0
    return iterates


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_the_iterates_are_those_of_the_papers_algorithm(
    network: nn.Module, batch: Batch, threat: Threat, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels, ids = first(batch, 40)
    right = (network(x).argmax(1) == labels).nonzero().squeeze(1)[:20]
    x, labels, ids = x[right], labels[right], ids[right]
    found: list[Tensor] = []

    def never(self: Victim, x: Tensor, labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        found.append(x.clone())
        return torch.zeros(len(x), dtype=torch.bool), margin(logits, labels)

    monkeypatch.setattr(Victim, "judge", never)
    steps = 24
    APGD(steps=steps)(network, x, labels, ids, threat, seed=3)
    assert len(found) == steps + 1
    same = halved = 0
    for i in range(len(x)):
        expected = reference(network, x[i : i + 1], labels[i : i + 1], found[0][i : i + 1], threat, steps)
        # a loss that rises by a rounding error more or less may decide otherwise for single images
        same += all(torch.allclose(a[i], b[0], atol=1e-4) for a, b in zip(found, expected, strict=True))
        halved += not torch.equal(expected[6], expected[5])
    assert same >= 0.9 * len(x)


EXACT: dict[str, list[Attack]] = {
    "linf": [APGD(steps=12), APGD(steps=12, loss="dlr"), TargetedAPGD(steps=12, targets=3)],
    "l2": [APGD(steps=40), APGD(steps=40, loss="margin"), TargetedAPGD(steps=40, targets=1, loss="margin")],
}


@pytest.mark.parametrize("pair", [(0, 1), (2, 3)])
@pytest.mark.parametrize(("norm", "number"), [(norm, i) for norm, some in EXACT.items() for i in range(len(some))])
def test_on_a_linear_model_the_exact_margin_decides(norm: str, number: int, pair: tuple[int, int]) -> None:
    attack, threat = EXACT[norm][number], Threat(norm=norm, eps=0.03 if norm == "linf" else 0.1)
    shares = torch.tensor([0.3, 0.6, 0.9, 0.97, 1.03, 1.1, 1.5])
    model, (x, labels, ids) = separated(norm, pair, shares, threat.eps)
    result = attack(model, x, labels, ids, threat)
    assert result.broken.tolist() == (shares < 1).tolist()
    assert result.prediction.tolist() == torch.where(shares < 1, pair[1], pair[0]).tolist()


def test_a_class_that_only_a_targeted_attack_finds() -> None:
    """The nearest class is out of reach, the second is not: what the untargeted loss climbs leads astray."""
    direction = torch.zeros(48)
    direction[::2] = 1.0

    def trap(x: Tensor) -> Tensor:
        flat = x.flatten(1) - 0.5
        along, across = flat @ direction, flat @ (1 - direction)
        decoy = -0.1 + 0.01 * across.clamp(max=5.0) - 0.009 * along  # always second, never first
        hidden = -1.0 + 0.6 * along
        return torch.stack([0 * along, decoy, hidden, 0 * along - 9], 1)

    threat, some = Threat(norm="linf", eps=0.1), constant(6)
    model = Function(trap)
    assert not APGD(steps=20, loss="margin")(model, *some, threat).broken.any()
    assert not TargetedAPGD(steps=20, targets=1)(model, *some, threat).broken.any()
    assert TargetedAPGD(steps=20, targets=2)(model, *some, threat).broken.all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_classes_are_scanned_by_the_distance_of_their_boundaries(norm: str) -> None:
    """Of a linear model that is ``margin / |w_t - w_y|`` in the dual norm, which orders the classes otherwise than logits."""
    draws = torch.Generator().manual_seed(2)
    weight = torch.randn(7, 48, generator=draws) * torch.linspace(0.1, 2.0, 7)[torch.randperm(7, generator=draws), None]
    model = Linear(weight, torch.randn(7, generator=draws))
    x = 0.3 + 0.4 * torch.rand(20, 3, 4, 4, generator=draws)
    with torch.no_grad():
        logits = model(x)
    labels = logits.argmax(1)
    gap = logits.gather(1, labels[:, None]) - logits
    apart = weight[None] - weight[labels][:, None]
    slope = apart.abs().sum(2) if norm == "linf" else apart.norm(dim=2)
    distance = (gap / slope).scatter(1, labels[:, None], torch.inf)
    threat = Threat(norm=norm, eps=float(distance.amin(1).quantile(0.6)))
    ids = torch.arange(20)
    reachable = distance.amin(1) < threat.eps
    one = TargetedAPGD(steps=20, targets=1)
    assert torch.equal(dataclasses.replace(one, scanned=6)(model, x, labels, ids, threat).broken, reachable)
    assert int(one(model, x, labels, ids, threat).broken.sum()) < int(reachable.sum()) < 20


def test_a_trial_finds_the_class_that_is_worth_the_other_steps() -> None:
    """Of eight classes the farthest gives way, but link by link: a trial is too short for it, and sees that it moves."""

    def chain(x: Tensor) -> Tensor:
        moved = (x - 0.5).flatten(1)[:, :24]
        open_ = torch.cat([torch.ones(len(x), 1), (moved[:, :-1] > 0.02).float()], 1)  # each link opens the next
        far = -0.7 + 0.35 * ((moved + 0.05) * open_).sum(1)
        near = -0.6 - 0.01 * torch.arange(6.0) + 0.01 * x.flatten(1)[:, 24:25]
        return torch.cat([0 * near[:, :1], near, far[:, None]], 1)

    some, threat, attack = constant(6), Threat(norm="linf", eps=0.05), TargetedAPGD(steps=40, trial=2, finalists=1)
    assert attack(Function(chain), *some, threat).prediction.tolist() == [7] * 6
    for too_little in ({"steps": 1, "trial": None}, {"targets": 6}):
        assert not dataclasses.replace(attack, **too_little)(Function(chain), *some, threat).broken.any()


def test_a_trial_with_as_many_finalists_as_targets_is_none(network: nn.Module, batch: Batch) -> None:
    some, whole = first(batch, 40), TargetedAPGD(steps=6, targets=3)
    plain = whole(network, *some, LINF)
    for trial, finalists in ((2, 3), (6, 1)):
        tried = dataclasses.replace(whole, trial=trial, finalists=finalists)(network, *some, LINF)
        assert torch.equal(tried.adversarial, plain.adversarial)
        assert tried.passes == plain.passes


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-torch.inf, 0.0, 1.0, 2.0])), max_size=15), st.integers(1, 4)
)
def test_the_highest_of_each_row(pairs: list[tuple[int, float]], count: int) -> None:
    rows, values = torch.tensor([r for r, _ in pairs], dtype=torch.long), torch.tensor([v for _, v in pairs])
    ranked = sorted(range(len(pairs)), key=lambda i: (-pairs[i][1], i))
    best = [i for row in range(5) for i in [i for i in ranked if pairs[i][0] == row][:count]]
    assert highest(rows, values, count).nonzero().squeeze(1).tolist() == sorted(best)


def test_of_several_images_of_an_example_the_worst_is_kept() -> None:
    worst, images = BestSoFar(torch.zeros(3, 1, 1, 1)), torch.arange(1.0, 6).view(5, 1, 1, 1)
    score = torch.tensor([-2.0, -1.0, torch.inf, torch.inf, -3.0])
    worst.update(torch.tensor([0, 0, 1, 1, 0]), images, score.isposinf(), score)
    assert worst.images.flatten().tolist() == [2, 3, 0]
    worst.update(torch.tensor([0, 1]), images[3:], torch.tensor([False, False]), torch.tensor([-1.5, 9.0]))
    assert worst.images.flatten().tolist() == [2, 3, 0]


def test_a_break_ends_all_climbs_of_its_example() -> None:
    """The nearest class gives way to the first step, the others never: a second step is taken towards none."""

    def model(x: Tensor) -> Tensor:
        moved = (x - 0.5).flatten(1).mean(1)
        return torch.stack([0 * moved, 100 * moved - 2.5, -9 - moved, -9 - 2 * moved], 1)

    attack, threat = TargetedAPGD(steps=20, loss="margin", trial=4, finalists=1), Threat(norm="linf", eps=0.05)
    found = attack(Function(model), *constant(5), threat)
    assert found.prediction.tolist() == [1] * 5
    assert found.passes == 5 * (1 + 1 + 3 * (2 + 2) + 1)


def test_what_a_trial_costs() -> None:
    """3 targets tried for 4 steps, 1 of them gone on with for 16 and scored; the clean passes and the verdict."""
    unbreakable = Function(lambda x: 9.0 - torch.arange(4.0) + 0 * x.flatten(1)[:, :1])
    attack = TargetedAPGD(steps=20, trial=4, finalists=1)
    found = attack(unbreakable, *constant(5), LINF)
    assert not found.broken.any()
    assert found.passes == 5 * (1 + 1 + 3 * (2 * 4) + (2 * 16 + 1) + 1)
    scanned = TargetedAPGD(steps=20, targets=1, scanned=3)(unbreakable, *constant(5), LINF)
    assert scanned.passes == 5 * (1 + 1 + 3 * 2 + (2 * 20 + 1) + 1)


@pytest.mark.parametrize("classes", [2, 3, 4, 12])
@pytest.mark.parametrize("attack", [APGD(steps=8, loss="dlr"), TargetedAPGD(steps=8)], ids=str)
def test_any_number_of_classes_from_two_up(attack: Attack, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    weight = torch.randn(classes, 48, generator=generator)
    model = Function(lambda x: (x.flatten(1) - 0.5) @ weight.T)
    x = torch.rand(20, 3, 4, 4, generator=generator)
    labels = model(x).argmax(1)
    result = attack(model, x, labels, torch.arange(20), Threat(norm="linf", eps=0.3))
    assert result.broken.float().mean() > 0.9


def test_of_few_classes_all_others_are_targets(network: nn.Module, batch: Batch) -> None:
    x, labels, ids = first(batch, 8)
    three = Function(lambda x: network(x)[:, :3])
    labels = three(x).argmax(1)
    assert TargetedAPGD(steps=2, targets=9)(three, x, labels, ids, Threat(norm="linf", eps=0.01)).passes > 0


@pytest.mark.parametrize(
    ("attack", "noise"),
    # cross-entropy of logits far from the usual range climbs them at the usual one: another, as strong, attack
    [(APGD(steps=20, loss="dlr"), 0), (TargetedAPGD(steps=10), 0), (APGD(steps=20), 5)],
    ids=str,
)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_logits_changes_no_more_than_noise(
    network: nn.Module, batch: Batch, attack: Attack, noise: int, scale: float
) -> None:
    some = first(batch, 128)
    plain, scaled = (attack(model, *some, LINF).broken for model in (network, Scaled(network, scale)))
    assert abs(int(plain.sum()) - int(scaled.sum())) <= noise
    if not noise:
        assert int((plain != scaled).sum()) <= 1


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_auto_pgd_is_at_least_as_strong_as_pgd(network: nn.Module, batch: Batch, threat: Threat) -> None:
    pgd, auto, aimed = (
        int((~attack(network, *batch, threat).broken).sum())
        for attack in (PGD(steps=40), APGD(steps=40), TargetedAPGD(steps=20))
    )
    assert auto <= pgd + 3
    assert aimed < auto


@pytest.mark.parametrize("cls", [APGD, TargetedAPGD])
@pytest.mark.parametrize("wrong", [{"steps": 0}, {"restarts": 0}, {"loss": "nonsense"}])
def test_settings_out_of_range_are_refused(cls: type[Attack], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        cls(**wrong)


@pytest.mark.parametrize("wrong", [{"trial": 0}, {"trial": 101}, {"finalists": 0}, {"targets": 0}, {"scanned": 8}])
def test_trials_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="apgd-t"):
        TargetedAPGD(**wrong)


def test_how_many_are_tried_at_a_time_changes_nothing(
    network: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, some = TargetedAPGD(steps=6, targets=3, trial=2, finalists=1), first(batch, 60)
    together = attack(network, *some, LINF)
    for name, value in (("CLIMBING", 1), ("MIN_ROWS", 7)):
        monkeypatch.setattr(apgd_t, name, value)
    apart = attack(network, *some, LINF)
    assert torch.equal(together.adversarial, apart.adversarial)
    assert together.passes == apart.passes
