"""The page for those who come from another library: every line of its table runs, and does what it stands beside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from attack_helpers import Batch, Function, first
from torch import nn

import robust_transfer as rt

PAGE = Path(__file__).parents[2] / "docs" / "coming_from.md"
ROWS = re.findall(r"^\| `(\w+\..*)` \| `(.*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_has_rows() -> None:
    assert len(ROWS) == 10


@pytest.mark.parametrize(("there", "here"), ROWS, ids=[there.partition("(")[0] for there, _ in ROWS])
def test_a_line_of_the_table(there: str, here: str, network: nn.Module, batch: Batch) -> None:
    x, _, _ = first(batch, 6)
    fragile = Function(lambda images: network(8 * images - 3.5))  # small budgets break it
    with torch.no_grad():
        y = fragile(x).argmax(1)
    eps = re.search(r"\beps(?:ilons)?=([\d./]+)", there)
    assert (re.search(r"\beps=([\d./]+)", here) or [None, None])[1] == (eps[1] if eps else None)
    for told, meant in (("steps", r"pgd-(?:t-)?(\d+)"), ("n_queries", r"square-(\d+)"), ("eot_iter", r"eot=(\d+)")):
        if (number := re.search(rf"\b{told}=(\d+)", there)) is not None:
            assert re.search(meant, here)[1] == number[1]  # type: ignore[index]
    found = eval(here, {"rt": rt, "model": fragile, "x": x, "y": y})
    if isinstance(found, float):
        assert found == 1.0
        return
    ball = rt.Threat(norm="l2" if "L2" in here else "linf", eps=eval(eps[1]) if eps else 0.0)
    assert 0 < float(ball.size(found - x).max()) <= ball.eps * (1 + 1e-4)
