"""Sizes of passes: enough for all rows, no slower than another choice, and only those that agree."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
import torch

from robust_transfer.pass_sizes import OVERHEAD_IMAGES, agreeing, cover, full_chunk, smaller, usual_chunk

CPU = torch.device("cpu")


def test_full_passes_are_larger_in_bfloat16() -> None:
    for threads, exact, fast in ((1, 16, 64), (2, 32, 128), (4, 64, 128), (32, 256, 256)):
        torch.set_num_threads(threads)
        assert usual_chunk(CPU) == full_chunk(CPU) == exact
        assert full_chunk(CPU, 32, torch.bfloat16) == fast
        assert full_chunk(CPU, 1024, torch.bfloat16) == usual_chunk(CPU, 1024), "photos: memory sets the limit"
    assert full_chunk(torch.device("cuda"), 32, torch.bfloat16) is None


@pytest.mark.parametrize(("chunk", "sizes"), [(2, (2,)), (4, (4,)), (16, (4, 8, 16)), (24, (4, 8, 16, 24))])
def test_powers_of_two_below_a_chunk(chunk: int, sizes: tuple[int, ...]) -> None:
    assert smaller(chunk) == sizes


@pytest.mark.parametrize("sizes", [(4, 8, 16, 32), (16,), (8, 24)])
def test_passes_cover_the_rows_in_the_least_time(sizes: tuple[int, ...]) -> None:
    def cheapest(rows: int) -> int:
        """By trying all."""
        counts = range(-(-rows // min(sizes)) + 1)
        tried = [found for n in counts for found in combinations_with_replacement(sizes, n) if sum(found) >= rows]
        return min(sum(found) + OVERHEAD_IMAGES * len(found) for found in tried)

    for rows in range(1, sizes[-1] + 1):
        found = cover(rows, sizes)
        assert sum(found) >= rows
        assert sum(found[:-1]) < rows, "only the last is filled up"
        assert sum(found) + OVERHEAD_IMAGES * len(found) <= cheapest(rows) + 4, rows
    assert cover(0, sizes) == []
    assert cover(5 * sizes[-1] + 1, sizes) == [sizes[-1]] * 5 + cover(1, sizes)


def test_sizes_agree_bit_for_bit_in_everything() -> None:
    usual = [torch.arange(32.0), torch.arange(64.0).view(32, 2)]

    def rows(size: int) -> list[torch.Tensor]:
        return [each[-size:].clone() for each in usual]

    found = {size: rows(size) for size in (4, 8, 16, 32)}
    assert agreeing(found, usual) == (4, 8, 16, 32)
    found[8][1][3, 1] *= 1 + 2**-23
    assert agreeing(found, usual) == (4, 16, 32)
    found[32][0][0] = 1e-30
    assert agreeing(found, usual) == (4, 16)
