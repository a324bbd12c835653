"""Features averaged over mirror images."""

from __future__ import annotations

import torch

from robust_transfer import networks
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.preprocessing import CIFAR10, Preprocessing


def spec(**settings: object) -> NetworkSpec:
    return NetworkSpec(
        name="wrn_16_1", num_classes=3, preprocessing=Preprocessing(size=32, normalisation=CIFAR10), settings=settings
    )


def test_features_are_the_mean_of_both_views() -> None:
    plain = networks.create("wrn_16_1", num_classes=0, input_size=32).eval()
    both = networks.create("wrn_16_1", num_classes=0, input_size=32, mirrored=True).eval()
    both.load_state_dict({f"body.{name}": value for name, value in plain.state_dict().items()})
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(both(x), (plain(x) + plain(x.flip(3))) / 2)
        torch.testing.assert_close(both(x), both(x.flip(3)))
        assert not torch.allclose(both(x), both(x.flip(2)))


def test_gradients_go_through_both_views() -> None:
    body = networks.create("wrn_16_1", num_classes=0, input_size=32, mirrored=True).eval()
    x = torch.rand(1, 3, 32, 32)
    symmetric = torch.cat([x[..., :16], x[..., :16].flip(3)], 3).requires_grad_()
    (gradient,) = torch.autograd.grad(body(symmetric).square().sum(), symmetric)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(gradient, gradient.flip(3), msg="of an image that is its own mirror image")


def test_blocks_are_those_of_the_network_inside() -> None:
    both, plain = Classifier.build(spec(mirrored=True)), Classifier.build(spec())
    expected = [tuple(n.replace("body.", "body.body.") for n in block) for block in plain.blocks()]
    assert both.blocks() == expected
