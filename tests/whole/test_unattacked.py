"""Images that no attack could climb from: they count as broken, a flag says so, and a verification does not contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attack_helpers import Linear
from torch import Tensor, nn

import robust_transfer as rt
from robust_transfer.data import Split

RUN: dict[str, Any] = {"quiet": True, "device": "cpu", "precision": "float32"}


class Rooted(nn.Module):
    """A linear model with a square root of nothing in it: its logits are right, its gradient is NaN for dark images."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.linear = Linear(torch.randn(3, 48, generator=generator), torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        dark = (x[:, 0, 0, 0] < 0.5).nonzero().squeeze(1)
        nothing = (x[dark] - x[dark].detach()).square().flatten(1).sum(1).sqrt()
        found: Tensor = self.linear(x)
        return found.index_add(0, dark, nothing[:, None].expand(-1, 3))


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=generator)
    images[:, 0, 0, 0] = torch.where(torch.arange(40) % 4 == 0, 0, 255)
    labels = Rooted()(images.float() / 255).argmax(1)
    return Split.in_memory(images, labels, ("a", "b", "c"))


def test_a_gradient_that_is_no_number_is_not_robustness(split: Split, tmp_path: Path) -> None:
    tiny: dict[str, Any] = {"threat": "linf:0.001", "red_flag_examples": 0}
    found = rt.evaluate(Rooted(), split, attack="pgd-5", keep_deltas=True, run=rt.Run(**RUN, out=tmp_path), **tiny)
    sound = found.outcomes["broken_by"] == ""
    assert not sound[::4].any()
    assert sound.sum() >= 25
    assert found.robust_accuracy.value == sound.mean()
    assert (
        "the gradient is not a number on 10 of 40 images: no attack could climb it, and they count as broken"
        in found.flags
    )
    verified = rt.verify(tmp_path, Rooted(), split, run=rt.Run(**RUN))
    assert verified.problems == []
    assert verified.robust_accuracy.value == found.robust_accuracy.value
    square = rt.evaluate(Rooted(), split, attack="square-20", run=rt.Run(**RUN), **tiny)
    assert square.robust_accuracy.value > found.robust_accuracy.value, "an attack without gradients attacks them"
    assert not [flag for flag in square.flags if "no attack could climb it" in flag]
