"""Frame of a page: its policy names the hashes of what it holds."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

import robust_transfer.drawing
from robust_transfer.drawing import page
from robust_transfer.drawing.page import policy, render

STYLE = (Path(robust_transfer.drawing.__file__).parent / "style.css").read_text(encoding="utf-8")
# Linear RGB as people without red or without green cones see it (Machado et al. 2009, severity 1).
SEEN = {
    "everybody": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
}  # fmt: skip


def variables(dark: bool) -> dict[str, str]:
    light, _, night = STYLE.partition("@media (prefers-color-scheme: dark)")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", night if dark else light))


def linear(colour: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    values = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """Of WCAG 2."""
    high, low = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_policy_allows_exactly_what_is_on_the_page() -> None:
    text = render(
        "base.html", style="demo.css", title="<t>",
    )  # fmt: skip
    styles = re.findall(r"<style>(.*?)</style>", text, re.S)
    assert len(styles) == 2
    for style in styles:
        assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in text.replace("&#43;", "+")
    assert "script-src &#39;none&#39;" in text
    assert "<title>&lt;t&gt;</title>" in text
    assert policy([], []).count("'none'") == 5


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast_is_that_of_wcag_aa(dark: bool) -> None:
    colours = variables(dark)
    for name in ("ink", "soft", "wrong", "right", "accent", "source", "control", "scratch"):
        for ground in ("page", "card") if name != "source" else ("page",):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["ink"], colours["warn"]) >= 4.5
    for number in range(6):
        assert contrast(colours[f"series-{number}"], colours["page"]) >= 3, number


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_of_series_are_told_apart(dark: bool, sight: str) -> None:
    """Every pair by a fifth of a channel at least, as screens encode it."""
    colours = variables(dark)
    seen = [np.clip(SEEN[sight] @ linear(colours[f"series-{k}"]), 0, 1) ** (1 / 2.2) for k in range(6)]
    for a, b in combinations(range(6), 2):
        assert np.abs(seen[a] - seen[b]).max() > 0.2, (a, b)


def test_a_page_has_no_control_characters_and_changes_of_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    import jinja2

    template = jinja2.DictLoader({"x.html": "{{ name }}|{{ safe }}|{{ number }}"})
    monkeypatch.setattr("robust_transfer.drawing.page.jinja2.ChoiceLoader", lambda loaders: template)
    text = page.render("x.html", name="\x1b\u202e<b>", safe=Markup("<b>\x1b"), number=3)
    assert text == "\\x1b\\u202e&lt;b&gt;|<b>\x1b|3"
