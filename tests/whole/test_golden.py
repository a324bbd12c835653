"""Golden figures: what the packaged sources gave is what they give, within rounding; and a small fault is outside of it."""

from __future__ import annotations

import dataclasses
import hashlib

import golden
import pytest
import torch
from helpers import QUIET

RUN = dataclasses.replace(QUIET, precision="float32", threads=1)


@pytest.fixture(scope="module")
def committed() -> dict[str, golden.Figure]:
    return golden.read()


def wrong(found: list[golden.Figure], committed: dict[str, golden.Figure]) -> list[str]:
    """Figures that differ by more than rounding."""
    return [row["what"] for row in golden.compared(found, committed) if row["verdict"] == "differs"]


def test_the_pictures_are_the_same_everywhere() -> None:
    made = golden.pictures(32)
    assert made.shape == (golden.PICTURES, 3, 32, 32)
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == "f0d3a431de765979"
    assert len({each.tobytes() for each in made}) == golden.PICTURES


@pytest.mark.parametrize("name", golden.SOURCES)
def test_a_source_gives_its_golden_figures(name: str, committed: dict[str, golden.Figure]) -> None:
    assert wrong([*golden.of_network(name, RUN)], committed) == []


@pytest.mark.slow
def test_all_sources_and_a_transfer_give_their_golden_figures(committed: dict[str, golden.Figure]) -> None:
    found = golden.measured(RUN, strong=True)
    assert {each.what for each in found} == committed.keys()
    assert wrong(found, committed) == []


def test_a_small_fault_is_outside(committed: dict[str, golden.Figure]) -> None:
    """A mean of the normaliser that is off by 1/255 in one channel."""
    source = golden.packaged("bundled")
    images = torch.from_numpy(golden.pictures(32)).float() / 255
    with torch.no_grad():
        right = source.classifier(images)
        images[:, 0] += 1 / 255
        off = source.classifier(images)
    margins = [
        float((first - second).mean()) for first, second in (each.topk(2, dim=1).values.T for each in (right, off))
    ]
    golden_margin = committed["bundled: margin"]
    assert abs(margins[0] - golden_margin.value) <= golden_margin.tolerance < abs(margins[1] - golden_margin.value)


@pytest.mark.slow
def test_a_weaker_attack_is_outside(committed: dict[str, golden.Figure], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten steps in place of twenty."""
    monkeypatch.setattr(golden, "ATTACK", "pgd-10")
    found = {each.what.replace("pgd-10", "pgd-20"): each for each in golden.of_transfer(RUN)}
    what = "probe on digits: margin under pgd-20 at linf:8/255"
    assert found[what].against(committed[what]) == "differs"


@pytest.mark.parametrize(
    ("value", "digest", "verdict"),
    [(1.0, "a", "bit-equal"), (1.04, "b", "within tolerance"), (1.06, "b", "differs"), (float("nan"), "b", "differs")],
)
def test_verdicts(value: float, digest: str, verdict: str) -> None:
    assert golden.Figure("x", value, 0.05, digest).against(golden.Figure("x", 1.0, 0.05, "a")) == verdict
