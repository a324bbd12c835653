"""Features under attack and images made from features: against closed forms on simple networks."""

from __future__ import annotations

import pytest
import torch
from helpers import make_classifier
from torch import nn

from robust_transfer.analysis import feature_distances, maximise, reconstruct
from robust_transfer.analysis.layers import outputs
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.preprocessing import Preprocessing


def test_what_a_block_returns_is_what_the_network_computes() -> None:
    classifier, x = make_classifier().train(), torch.rand(3, 3, 8, 8)
    found = outputs(classifier, x)
    plain = classifier.copy().eval()
    body = plain.body
    h = body.get_submodule("conv1")(plain.normalise(x))
    torch.testing.assert_close(found["conv1"], h)
    first = body.get_submodule("units.0")(h)
    torch.testing.assert_close(found["units.0"], first)
    torch.testing.assert_close(found["logits"], plain(x))
    assert classifier.training, "modes are restored"
    assert not any(module._forward_hooks for module in classifier.modules())


def test_distances_are_relative_and_0_for_the_same_images() -> None:
    classifier, x = make_classifier().eval(), torch.rand(4, 3, 8, 8)
    assert all((value == 0).all() for value in feature_distances(classifier, x, x).values())
    other = torch.rand(4, 3, 8, 8)
    found = feature_distances(classifier, x, other)
    a, b = outputs(classifier, x), outputs(classifier, other)
    for name, value in found.items():
        wanted = [float((b[name][i] - a[name][i]).norm() / a[name][i].norm()) for i in range(4)]
        assert value.tolist() == pytest.approx(wanted, rel=1e-4)


class Means(nn.Module):
    """Features: the mean of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def means() -> Classifier:
    spec = NetworkSpec(name="wrn_16_1", num_classes=2, preprocessing=Preprocessing(size=4))
    return Classifier(Means(), nn.Linear(3, 2), spec).eval()


def test_an_image_that_maximises_a_mean_is_that_channel_in_full() -> None:
    found = maximise(means(), torch.tensor([0, 2]), steps=60)
    assert found.shape == (2, 3, 4, 4)
    for image, channel in zip(found, (0, 2), strict=True):
        assert image[channel].min() > 0.99
    assert torch.equal(found, maximise(means(), torch.tensor([0, 2]), steps=60))
    assert not torch.equal(found, maximise(means(), torch.tensor([0, 2]), steps=60, seed=1))


class Gate(nn.Module):
    """Features that are 0, without a slope, on images that are not bright enough in their channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.mean((2, 3)) - 0.55).relu()


def test_a_feature_that_is_dead_near_grey_is_driven_all_the_same() -> None:
    spec = NetworkSpec(name="wrn_16_1", num_classes=2, preprocessing=Preprocessing(size=4))
    found = maximise(Classifier(Gate(), nn.Linear(3, 2), spec).eval(), torch.tensor([1]), steps=60)
    assert found[0, 1].min() > 0.99


def test_an_image_rebuilt_from_means_has_the_same_means() -> None:
    x = torch.stack([torch.full((3, 4, 4), value) for value in (0.2, 0.7)])
    found = reconstruct(means(), x, steps=300)
    assert found.mean((2, 3)).flatten().tolist() == pytest.approx([0.2] * 3 + [0.7] * 3, abs=0.01)
    assert found.min() >= 0
    assert found.max() <= 1


def test_more_steps_never_end_further_away() -> None:
    classifier, x = make_classifier().eval(), torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        wanted = classifier.features(x)
        near, far = (
            (classifier.features(reconstruct(classifier, x, steps=steps)) - wanted).norm(dim=1) for steps in (60, 1)
        )
    assert (near <= far).all()
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
