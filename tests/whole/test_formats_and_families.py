"""Every format of file with a network of every family: read, and the logits are the writer's to 1e-5."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from published_families import AUTHORS
from published_files import MEAN, STD, WRITERS, write
from torch import Tensor

from robust_transfer.foreign.finding import find
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.importing import bring_in
from robust_transfer.preprocessing import Normalisation

NORMALISER = Normalisation(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
FAMILIES = list(AUTHORS)
# Each format with one family and each family with several formats, in turn; all pairs in the slow suite.
SOME = {(form, FAMILIES[i % len(FAMILIES)]) for i, form in enumerate(WRITERS)}
SOME |= {(form, "rice") for form in WRITERS} | {
    ("averaged", family) for family in FAMILIES if family not in ("xcit", "torchvision")
}
SOME |= {(form, family) for form in ("half", "madry") for family in FAMILIES if family not in ("xcit", "torchvision")}


def pairs() -> list[Any]:
    def marks(form: str, family: str) -> list[Any]:
        slow = [] if (form, family) in SOME else [pytest.mark.slow]
        missing = importlib.util.find_spec("open_clip") is None and family == "clip"
        return [*slow, *([pytest.mark.skip(reason="open_clip is missing")] if missing else [])]

    return [
        pytest.param(form, family, marks=marks(form, family), id=f"{form}-{family}")
        for form in WRITERS
        for family in FAMILIES
    ]


def worse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Another network of the same names: what a reader takes who takes the wrong set of weights."""
    return {key: value * 1.5 if value.is_floating_point() else value for key, value in state.items()}


@pytest.mark.parametrize(("form", "family"), pairs())
def test_logits_are_the_writers(form: str, family: str, tmp_path: Path) -> None:
    author = AUTHORS[family]
    state = author.make()
    path, said = write(form, tmp_path, state, worse(state))
    found = find(
        path,
        hints=Hints(
            settings=author.settings or None, size=author.size, normalisation=None if said.normalised else NORMALISER
        ),
    )
    made = bring_in(found)
    origin = made.card.origin
    assert (found.family, found.contents.format) == (author.family, said.form)
    assert (origin.get("weights", ""), origin.get("prefix", "")) == (said.where, said.prefix)
    assert made.preprocessing.normalisation == NORMALISER
    assert origin["normalisation"] == ("stored in the file" if said.normalised else "given")
    x = torch.rand(2, 3, author.size, author.size, generator=torch.Generator().manual_seed(0))
    shown = {k: v.half() if said.half and v.is_floating_point() else v for k, v in state.items()}
    exact = {k: v.double() if v.is_floating_point() else v for k, v in shown.items()}
    with torch.no_grad():
        inputs = ((x - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)).double()
        expected = author.forward(exact, inputs).float()
        logits = made.classifier.features(x) if made.headless else made.classifier(x)
    assert float(expected.std()) > 1e-3, "nothing is compared"
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert sorted(each.name for each in tmp_path.iterdir() if "-of-" not in each.name) == [path.name]


@pytest.mark.parametrize("form", ["averaged", "timm", "last_and_best"])
def test_the_other_set_of_weights_is_another_network(form: str, tmp_path: Path) -> None:
    """What the matrix would see if the wrong set were preferred; and the file says what else it holds."""
    author = AUTHORS["rice"]
    state = author.make()
    path, said = write(form, tmp_path, state, worse(state))
    hints = Hints(settings=author.settings, normalisation=NORMALISER)
    right = find(path, hints=hints)
    [other] = right.layout.others
    assert repr(other) in " ".join(right.layout.notes)
    wrong = bring_in(find(path, hints=replace(hints, weights=other)))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        a, b = bring_in(right).classifier(x), wrong.classifier(x)
    assert float((a - b).abs().max()) > 0.1 * float(a.std())
    assert said.where not in (other, "")
