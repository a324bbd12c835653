"""Networks built without drawing weights differ from others in the weights only."""

from __future__ import annotations

import pytest
import torch

from robust_transfer import networks
from robust_transfer.undrawn import undrawn


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("wrn_16_1", 32),
        ("vit_tiny_patch16_224", 32),
        ("swin_tiny_patch4_window7_224", 64),
        ("xcit_nano_12_p16_224", 32),
    ],
)
def test_buffers_are_right_and_loading_makes_the_network(name: str, size: int) -> None:
    """Relative positions of Swin are buffers that no file has."""
    drawn = networks.create(name, num_classes=0, input_size=size).eval()
    with undrawn():
        made = networks.create(name, num_classes=0, input_size=size).eval()
    kept, others = dict(drawn.named_buffers()), dict(made.named_buffers())
    assert kept.keys() == others.keys()
    assert all(torch.equal(kept[k], others[k]) for k in kept)
    if name.startswith("swin"):
        assert set(kept) - set(drawn.state_dict())
    made.load_state_dict(drawn.state_dict())
    x = torch.rand(1, 3, size, size)
    with torch.no_grad():
        assert torch.equal(made(x), drawn(x))


def test_nothing_is_drawn() -> None:
    before = torch.get_rng_state()
    with undrawn():
        weight = torch.full((1000,), 2.0)
        torch.nn.init.normal_(weight)
        torch.nn.Linear(10, 10)
    assert bool((weight == 2).all())
    assert torch.equal(torch.get_rng_state(), before)
    torch.nn.init.normal_(weight)
    assert not bool((weight == 2).any())
