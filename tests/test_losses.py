"""Losses: hand-worked values, scale, saturation, two classes."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robust_transfer import losses
from robust_transfer.errors import UnknownNameError

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
LABELS = torch.tensor([0, 2])


def gradient(loss: losses.Loss, logits: Tensor, labels: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_(True)
    (result,) = torch.autograd.grad(loss(logits, labels).sum(), logits)
    return result


def test_values_by_hand() -> None:
    total = 1 + math.exp(-1) + math.exp(-2)
    assert losses.cross_entropy(LOGITS, LABELS).tolist() == pytest.approx([math.log(total), 2 + math.log(total)])
    assert losses.margin(LOGITS, LABELS).tolist() == [-1.0, 2.0]
    assert losses.dlr(LOGITS, LABELS).tolist() == [-0.5, 1.0]
    odds = [math.log(math.exp(1) + math.exp(0)) - 2, math.log(math.exp(2) + math.exp(1))]
    assert losses.log_odds(LOGITS, LABELS).tolist() == pytest.approx(odds)
    one, other = 1 / total, math.exp(-1) / total
    assert losses.probability_margin(LOGITS, LABELS).tolist() == pytest.approx(
        [other - one, one - math.exp(-2) / total]
    )
    aim = torch.tensor([[0, 2], [2, 1]])
    expected_t = [(math.exp(-2) - 1) / total, (math.exp(-1) - math.exp(-2)) / total]
    assert losses.targeted_probability_margin(LOGITS, aim).tolist() == pytest.approx(expected_t)
    # KL((3/4, 1/4) || (1/2, 1/2))
    reference = torch.tensor([[math.log(3.0), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert losses.kl(torch.zeros(1, 2), reference).tolist() == pytest.approx([expected])


def test_two_classes_have_no_third_logit() -> None:
    logits, labels = torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([0, 1])
    for name in ("margin", "dlr", "ce"):  # of one other class the log odds are the margin
        assert losses.get_loss(name)(logits, labels).tolist() == pytest.approx([2.0, -2.0])


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=6, unique=True), st.data())
def test_the_margin_is_positive_exactly_where_misclassified(row: list[float], data: st.DataObject) -> None:
    logits, label = torch.tensor([row]), data.draw(st.integers(0, len(row) - 1))
    assert bool(losses.margin(logits, torch.tensor([label])) > 0) == (int(logits.argmax()) != label)


def test_the_log_odds_have_the_direction_of_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 7, generator=generator) * 3, torch.randint(0, 7, (50,), generator=generator)
    wanted = gradient(losses.cross_entropy, logits, labels)
    found = gradient(losses.log_odds, logits, labels)
    assert torch.allclose(F.normalize(found), F.normalize(wanted), atol=1e-5)
    assert torch.allclose(F.softplus(losses.log_odds(logits, labels)), losses.cross_entropy(logits, labels), atol=1e-5)


def test_a_sure_network_still_gives_the_attack_a_direction() -> None:
    logits, labels = torch.tensor([[90.0, 3.0, 0.0]]), torch.tensor([0])
    assert gradient(losses.cross_entropy, logits, labels)[0, 0] == 0
    found = gradient(losses.log_odds, logits, labels)[0]
    assert found.tolist() == pytest.approx([-1.0, 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))], abs=1e-6)


def test_a_sure_network_gives_the_probability_margin_a_direction_too() -> None:
    found = gradient(losses.probability_margin, torch.tensor([[90.0, 3.0, 0.0]]), torch.tensor([0]))[0]
    assert found[0] < -1e-6
    assert found[1] > 1e-6


@pytest.mark.parametrize(
    ("name", "power"),
    [("margin", 10), ("margin", -10), ("dlr", 10), ("dlr", -10), ("ce", -10), ("probability", -10)],
)
def test_the_scale_of_logits_does_not_turn_the_gradient(name: str, power: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(20, 5, generator=generator) * 4
    logits = logits / (logits.amax(1) - logits.amin(1))[:, None] * losses.TYPICAL
    labels, loss = torch.randint(0, 5, (20,), generator=generator), losses.get_loss(name)
    expected, found = gradient(loss, logits, labels), gradient(loss, logits * 2.0**power, labels)
    assert torch.allclose(F.normalize(found), F.normalize(expected), atol=1e-5)


def test_far_apart_logits_weigh_the_other_classes_all_the_same() -> None:
    logits, labels = torch.tensor([[0.0, 4.0, 3.0, -2.0, 1.0]]), torch.tensor([1])
    large, larger = (gradient(losses.log_odds, logits * 2.0**power, labels) for power in (8, 12))
    assert torch.allclose(F.normalize(large), F.normalize(larger), atol=1e-5)
    weights = large[0] / -large[0, 1]
    assert weights[2] < 0.999  # the margin's gradient gives all the weight to the best other class
    assert weights.argsort().tolist() == [1, 3, 0, 4, 2]


def test_a_class_far_below_the_others_changes_nothing() -> None:
    logits, labels = torch.tensor([[3.0, 1.0, 0.0, 2.0]]), torch.tensor([0])
    expected = gradient(losses.log_odds, logits, labels)
    for far in (-1e4, -torch.inf):
        found = gradient(losses.log_odds, torch.cat([logits, torch.full((1, 1), far)], 1), labels)
        assert torch.allclose(found[:, :4], expected)


@pytest.mark.parametrize("name", ["ce", "probability"])
@pytest.mark.parametrize("edge", [losses.SMALL, losses.TYPICAL, losses.LARGE])
def test_a_settled_loss_does_not_jump_where_logits_leave_the_usual_range(name: str, edge: float) -> None:
    logits, labels = torch.tensor([[1.0, 0.6, 0.0, 0.3]]), torch.tensor([0])
    inside, outside = logits * edge * 1.001, logits * edge * 0.999
    loss, aim = losses.settle(losses.get_loss(name), lambda: outside, labels)
    assert loss(inside, aim).item() == pytest.approx(loss(outside, aim).item(), rel=0.02)
    assert loss(outside, aim).item() == pytest.approx(losses.get_loss(name)(outside, labels).item())


def test_what_does_not_scale_is_settled_already() -> None:
    labels = torch.tensor([1, 0])
    assert losses.settle(losses.margin, lambda: pytest.fail("not asked for"), labels) == (losses.margin, labels)


def test_a_settled_targeted_loss_keeps_label_and_target() -> None:
    logits, aim = torch.tensor([[1.0, 0.5, 0.0, 0.2]]) * 3, torch.tensor([[0, 3]])
    loss, columns = losses.settle(losses.TARGETED["probability"], lambda: logits, aim)
    assert loss(logits, columns).item() == pytest.approx(losses.targeted_probability_margin(logits, aim).item())


@pytest.mark.parametrize("name", list(losses.LOSSES))
def test_ruled_out_classes_and_equal_logits_are_no_obstacle(name: str) -> None:
    inf = torch.inf
    logits = torch.tensor([[1.0, 3.0, -inf, 0.0], [2.0, 2.0, 2.0, 2.0], [1.0, 3.0, -inf, -inf]])
    value = losses.get_loss(name)(logits, torch.tensor([0, 1, 0]))
    assert not value.isnan().any()
    assert value[0] > 0
    assert value[2] >= 0


@pytest.mark.parametrize("loss", [losses.cross_entropy, *losses.LOSSES.values()])
def test_losses_are_float32_per_example(loss: losses.Loss) -> None:
    value = loss(LOGITS.bfloat16(), LABELS)
    assert value.dtype is torch.float32
    assert value.shape == (2,)


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'margin'"):
        losses.get_loss("margins")
