"""Bounds of features hold for every image in the ball that anybody tries, and are exact where they can be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from certification_helpers import Residual, bodies, classifier, inner_images, linear, matrix
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.certification.bounds import Bounds
from robust_transfer.certification.regions import Region, joined, through_average
from robust_transfer.classifier import Classifier
from robust_transfer.errors import ConfigError
from robust_transfer.heads import MLP, HeadSpec, new_mlp
from robust_transfer.preprocessing import Normalisation

NAMES = list(bodies(0))


def corners(x: Tensor, eps: float, norm: str, n: int) -> Tensor:
    """Random images at the rim of the ball around each of ``x``, ``(n, B, C, H, W)``, in [0, 1]."""
    delta = torch.randn(n, *x.shape, dtype=torch.float64)
    if norm == "linf":
        return (x + eps * delta.sign()).clamp(0, 1)
    length: Tensor = delta.flatten(2).norm(dim=2)
    return (x + eps * delta / length.view(n, -1, 1, 1, 1)).clamp(0, 1)


def features_of(model: Classifier, x: Tensor) -> Tensor:
    """What the last linear layer reads, by the network itself in float64."""
    model = model.copy().double().eval()
    with torch.no_grad():
        features: Tensor = model.body(model.normalise(x.double()))
        if isinstance(model.head, MLP):
            hidden: Tensor = model.head.layers[:-1]((features - model.head.mean) / model.head.std)
            return hidden
    return features


def holds(model: Classifier, x: Tensor, eps: float, norm: str) -> None:
    region = Bounds(model).features(Region.ball(x, torch.full((len(x),), eps), norm))
    torch.testing.assert_close(region.centre, features_of(model, x), rtol=1e-6, atol=1e-8)
    for images in corners(x.double(), eps, norm, 50):
        found = features_of(model, images)
        assert bool(((found >= region.lower - 1e-9) & (found <= region.upper + 1e-9)).all())
        assert bool(((found - region.centre).norm(dim=1) <= region.shift + 1e-9).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", NAMES)
def test_no_image_in_the_ball_has_features_outside(name: str, norm: str) -> None:
    how = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    for seed in range(3):
        model = classifier(bodies(seed)[name], how)
        holds(model, inner_images(4, seed), 0.05 if norm == "linf" else 0.3, norm)
        holds(model, torch.rand(3, 3, 4, 4), 0.3 if norm == "linf" else 2.0, norm)  # at the ends of the box, too


def test_our_own_networks_and_a_perceptron_as_head() -> None:
    holds(make_classifier(0).eval(), torch.rand(2, 3, 8, 8), 0.01, "linf")
    plain = classifier(bodies(0)["mlp"])
    how = HeadSpec(hidden=(12,), batch_norm=True)
    head = new_mlp(plain.num_features, 4, how, torch.Generator().manual_seed(0)).eval()
    head.mean.normal_()
    head.std.uniform_(0.5, 2)
    holds(plain.with_layers(head, how).eval(), inner_images(3), 0.05, "linf")


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (4, 4), (2, 1), (3, 2), (1, 2)])
def test_averages_stretch_no_distance_by_more_than_their_norm(size: int, stride: int) -> None:
    x = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    wide = Region(x, x - 100, x + 100, torch.ones(1, dtype=torch.float64))
    bound = float(through_average(wide, (size, size), (stride, stride)).shift)
    exact = float(torch.linalg.matrix_norm(matrix(nn.AvgPool2d(size, stride), 2, 8, 8), 2))
    assert exact - 1e-9 <= bound
    assert bound <= exact * (1 + 1e-9) or stride < size


def test_branches_side_by_side() -> None:
    one, other = (Region.ball(torch.rand(2, 3, 4, 4), torch.tensor([0.1, 0.2]), "l2") for _ in range(2))
    both = joined([one, other], 1)
    assert both.lower.shape == (2, 6, 4, 4)
    assert both.shift.tolist() == pytest.approx([0.1 * 2**0.5, 0.2 * 2**0.5], rel=1e-6)


def test_intervals_are_those_of_gowal_et_al() -> None:
    """Two layers by hand: centre and radius through W and |W|."""
    body = bodies(1)["mlp"]
    x, eps = inner_images(3), 0.05
    first = linear(body).double()
    flat = x.double().flatten(1)
    middle, half = F.linear(flat, first.weight, first.bias), F.linear(torch.full_like(flat, eps), first.weight.abs())
    by_hand = F.relu(middle - half), F.relu(middle + half)
    region = Bounds(classifier(body.float())).features(Region.ball(x, torch.full((3,), eps), "linf"))
    # ours may only be tighter, by the distance
    assert bool(((region.lower >= by_hand[0] - 1e-6) & (region.upper <= by_hand[1] + 1e-6)).all())
    assert bool((region.upper - region.lower >= 0.5 * (by_hand[1] - by_hand[0])).any())


def test_a_ball_of_nothing_is_a_point_and_a_larger_ball_holds_the_smaller() -> None:
    bounds, x = Bounds(classifier(bodies(0)["residual"])), inner_images(3)
    none, small, large = (bounds.features(Region.ball(x, torch.full((3,), eps), "l2")) for eps in (0.0, 0.1, 0.2))
    assert float((none.upper - none.lower).amax()) < 1e-9
    assert float(none.shift.amax()) < 1e-9
    assert bool((large.lower <= small.lower).all())
    assert bool((large.shift >= small.shift).all())


class Odd(nn.Module):
    """A network with something in it."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 3), middle, nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.middle(self.first(x)).flatten(1))
        return logits


@pytest.mark.parametrize(
    ("middle", "word"),
    [(nn.GELU(), "GELU"), (nn.InstanceNorm2d(4), "InstanceNorm"), (nn.Conv2d(4, 4, 3, 1, 1, padding_mode="reflect"), "Conv2d")],
)  # fmt: skip
def test_a_layer_without_a_bound_is_named(middle: nn.Module, word: str) -> None:
    bounds = Bounds(classifier(Odd(middle)))
    with pytest.raises(ConfigError, match=f"knows no bound of .*{word}"):
        bounds.features(Region.ball(inner_images(1), torch.zeros(1), "l2"))


def test_standardised_images_have_no_bound() -> None:
    mean_free = Normalisation(per_image=True)
    with pytest.raises(ConfigError, match="standardising each image"):
        Bounds(classifier(bodies(0)["linear"], mean_free))


def test_residual_blocks_are_what_they_say() -> None:
    """The helper's block changes width and size, so that the shortcut's pooling and padding are looked at."""
    assert Residual(3, 8)(torch.rand(1, 3, 4, 4)).shape == (1, 8, 2, 2)
