"""Predicted robust accuracy: exact on a linear network, and by hand for the shift."""

from __future__ import annotations

import pytest
import torch
from helpers import make_classifier
from torch import Tensor, nn

from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, to_pixels
from robust_transfer.preprocessing import Normalisation, Preprocessing
from robust_transfer.ranking.margins import distances, standing_by_first_order, standing_by_shift
from robust_transfer.threat import Threat

CPU = torch.device("cpu")
RAW = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def pictures(n: int, classes: int = 4) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(60, 196, (n, 3, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return Split.in_memory(images, labels, tuple(str(k) for k in range(classes)))


def test_distances_by_hand() -> None:
    weight, bias = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]), torch.tensor([0.0, 0.0, 1.0])
    features, labels = torch.tensor([[2.0, 1.0], [0.0, 0.0]]), torch.tensor([0, 1])
    found, rivals = distances(features, labels, weight, bias)
    # logits 6, 4, 1: 2 / 5 over class 1, 5 / 3 over class 2; then 0, 0, 1: 0 / 5 over class 0, -1 / 4 over class 2
    assert found.tolist() == pytest.approx([0.4, -0.25])
    assert rivals.tolist() == [1, 2]


def test_the_nearest_boundary_is_as_far_as_the_features_have_to_move() -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 7, generator=generator).double(), torch.randn(5, generator=generator).double()
    features = torch.randn(30, 7, generator=generator).double()
    labels = (features @ weight.T + bias).argmax(1)
    distance, rivals = distances(features, labels, weight, bias)
    across = weight[rivals] - weight[labels]
    unit = across / across.norm(dim=1, keepdim=True)

    def classes(share: float) -> Tensor:
        found: Tensor = ((features + share * distance[:, None] * unit) @ weight.T + bias).argmax(1)
        return found

    assert torch.equal(classes(0.999), labels)
    assert torch.equal(classes(1.001), rivals)


def test_shares_by_shift_are_over_all_pairs() -> None:
    distance, shifts = torch.tensor([-1.0, 0.5, 2.0, 4.0]).double(), torch.tensor([1.0, 3.0])
    assert standing_by_shift(distance, shifts) == 3 / 8
    assert standing_by_shift(distance, torch.zeros(1)) == 3 / 4


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Flatten()
        self.fc = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.inner(x))
        return logits


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_to_first_order_is_exact_on_a_linear_network(norm: str) -> None:
    torch.manual_seed(3)
    classifier = Classifier.from_module(Flat(), Preprocessing(size=4, normalisation=RAW))
    split = pictures(250)
    x = to_pixels(split.images()).flatten(1).double()
    weight, bias = (each.detach().double() for each in classifier.head.parameters())
    logits = x @ weight.T + bias
    labels = split.labels
    rivals = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    margin = logits.gather(1, labels[:, None])[:, 0] - logits.gather(1, rivals[:, None])[:, 0]
    length = (weight[labels] - weight[rivals]).norm(dim=1, p=1 if norm == "linf" else 2)
    radius = margin / length
    eps = float(radius[radius > 0].median())
    found = standing_by_first_order(classifier, split, rivals, Threat(norm=norm, eps=eps), CPU)
    clear = (radius - eps).abs() > 1e-4 * eps  # the median itself is on the edge
    assert torch.equal(found[clear], (radius > eps)[clear])
    assert 0.1 < float(found.double().mean()) < 0.6
    assert torch.equal(standing_by_first_order(classifier, split, rivals, Threat(norm=norm, eps=0.0), CPU), margin > 0)


def test_the_network_is_left_as_it_was() -> None:
    classifier = make_classifier(size=4).train()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    split = pictures(9)
    standing_by_first_order(classifier, split, (split.labels + 1) % 4, Threat(norm="linf", eps=0.01), CPU)
    assert classifier.training
    assert all(p.requires_grad and p.grad is None for p in classifier.parameters())
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())
