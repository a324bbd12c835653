"""The low-rank branch against plain products: linear layers, convolutions of any shape and groups, and its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier
from torch import nn

from robust_transfer.strategies.low_rank import LowRank, _sizes


def branch_of(classifier: nn.Module, rank: int = 2) -> LowRank:
    return LowRank(classifier, rank, torch.Generator().manual_seed(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (nn.Linear(6, 4), (4, 6, 2)),
        (nn.Conv2d(6, 4, 3), (12, 18, 6)),
        (nn.Conv2d(6, 4, (3, 5)), (12, 30, 6)),
        (nn.Conv2d(6, 4, 3, groups=2), (12, 9, 6)),
    ],
)
def test_sizes_by_hand(layer: nn.Module, sizes: tuple[int, int, int]) -> None:
    rows, columns, rank = _sizes(layer, 2)
    assert (rows, columns, rank) == sizes
    assert rows * columns == layer.get_parameter("weight").numel()


def test_the_branch_begins_as_the_network_and_then_adds_its_products() -> None:
    classifier = make_classifier().eval()
    branch, x = branch_of(classifier), torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(branch(classifier, x), classifier(x))
    with torch.no_grad():
        for b in branch.b:
            b.normal_(0, 0.02, generator=torch.Generator().manual_seed(2))
    plain = classifier.copy().eval()
    layers = [part for part in plain.body.modules() if isinstance(part, (nn.Conv2d, nn.Linear))]
    assert len(layers) == len(branch.paths) > 5
    with torch.no_grad():
        for layer, a, b in zip(layers, branch.a, branch.b, strict=True):
            layer.weight += (b @ a).reshape(layer.weight.shape) / 2
    torch.testing.assert_close(branch(classifier, x), plain(x), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain(x), classifier(x), atol=1e-3)


def test_only_the_products_and_the_head_learn_from_the_branch() -> None:
    classifier = make_classifier().train()
    branch, y = branch_of(classifier), torch.tensor([1, 2, 3, 4])
    F.cross_entropy(branch(classifier, torch.rand(4, 3, 8, 8)), y).backward()
    assert all(p.grad is None for p in classifier.body.parameters())
    assert all(p.grad is not None and p.grad.any() for p in classifier.head.parameters())
    assert all(p.grad is not None and p.grad.any() for p in branch.b)
