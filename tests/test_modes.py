"""A foreign module may work in place on what it is given."""

from __future__ import annotations

import torch
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.modes import call


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.5).mul_(2.0).flatten(1)[:, :3]


def test_the_images_stay_what_they_are() -> None:
    x = torch.rand(4, 3, 8, 8)
    before = x.clone()
    assert torch.equal(call(InPlace(), x), ((before - 0.5) * 2).flatten(1)[:, :3])
    assert torch.equal(x, before)


def test_gradients_flow_through_what_works_in_place() -> None:
    x = torch.rand(4, 3, 8, 8, requires_grad=True)
    call(InPlace(), x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.flatten(1)[:, :4], torch.tensor([2.0, 2.0, 2.0, 0.0]).expand(4, 4))


def test_our_own_network_is_given_the_images_themselves() -> None:
    seen: list[int] = []
    classifier = make_classifier().eval()
    classifier.normalise.register_forward_pre_hook(lambda _, given: seen.append(given[0].data_ptr()))
    x = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    call(classifier, x)
    assert seen == [x.data_ptr()]
