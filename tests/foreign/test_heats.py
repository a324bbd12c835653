"""Readings that are far off are tried on a few images only; the others, and the choice, are as without the heat."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robust_transfer.foreign import heats
from robust_transfer.foreign.evidence import decide
from robust_transfer.foreign.heats import FEW, heat
from robust_transfer.foreign.measuring import Candidate

SCALES = (1.0, 1.3, 2.0, 4.0)


class Scaled(nn.Module):
    """A batch norm behind a factor, whose stored statistics are those of a factor of 1; counts the images it sees."""

    def __init__(self, factor: float, seen: list[int], norm: bool = True) -> None:
        super().__init__()
        self.factor, self.seen = factor, seen
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        if norm:
            self.norm.running_mean, self.norm.running_var = torch.full((3,), 0.5), torch.full((3,), 1 / 12)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        y: Tensor = self.norm(self.factor * (x - 0.5) + 0.5).mean((2, 3))
        return torch.cat([y, self.factor * y[:, :1] ** 2], 1)


def readings(norm: bool = True) -> tuple[list[Candidate], list[list[int]]]:
    seen: list[list[int]] = [[] for _ in SCALES]
    tried = [
        Candidate({"factor": str(factor)}, lambda factor=factor, into=into: Scaled(factor, into, norm))  # type: ignore[misc]
        for factor, into in zip(SCALES, seen, strict=True)
    ]
    return tried, seen


def pixels(n: int) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_those_far_off_see_few_images_and_the_choice_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, seen = readings()
    chosen, decision = decide(tried, pixels(256))
    assert chosen is tried[0]
    # two views in all: 32 images for everybody, and 256 for those within three times the least distance
    assert [sum(each) for each in seen] == [2 * (FEW + 256)] + [2 * FEW] * 3
    assert [row.what["factor"] for row in decision.rows] == ["1.0", "1.3", "2.0", "4.0"]
    assert decision.by == "batch-norm statistics"
    assert decision.note == "3 of them were so far off on 32 of the images that they were tried on no more"
    monkeypatch.setattr(heats, "OUT", 1e9)
    everybody, seen = readings()
    again, whole = decide(everybody, pixels(256))
    assert again is everybody[0]
    assert [sum(each) for each in seen] == [2 * (FEW + 256)] * 4
    assert whole.rows[0].distance == decision.rows[0].distance


@pytest.mark.parametrize(("n", "norm"), [(2 * FEW, True), (256, False)])
def test_where_it_saves_nothing_or_nothing_is_measured_all_are_left(n: int, norm: bool) -> None:
    tried, _ = readings(norm)
    assert heat(tried, pixels(n), None) == (tried, [])


def test_the_one_that_is_the_most_often_right_is_left_whatever_its_distance() -> None:
    tried, _ = readings()
    x = pixels(256)
    with torch.no_grad():
        labels = tried[3].build().eval()(x).argmax(1)  # the farthest reads the labels as they are
    left, out = heat(tried, x, labels)
    assert tried[3] in left
    assert [each.candidate for each in out] == [each for each in tried if each not in left]
