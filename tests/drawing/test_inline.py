"""SVG for pages: without styles, with the page's colours, described, and with ids of its own."""

from __future__ import annotations

from xml.etree import ElementTree

from robust_transfer.drawing import Point, inline
from robust_transfer.drawing.figures import budgets, costs, histories, pareto, tradeoff
from robust_transfer.drawing.plots import COLOURS, svg
from robust_transfer.statistics.intervals import wilson

POINTS = [Point("<b>first</b>", wilson(80, 100), wilson(40, 100)), Point("second", wilson(90, 100), wilson(30, 100))]


def drawn(key: str) -> ElementTree.Element:
    text = inline(
        tradeoff(POINTS, labels=["1", "2"], constant=0.1, threat="linf:8/255"),
        key=key,
        title="A <title>",
        description="words",
    )
    return ElementTree.fromstring(text)


def test_nothing_of_it_needs_a_style_and_its_colours_are_the_pages() -> None:
    elements = list(drawn("a").iter())
    values = [value for element in elements for value in element.attrib.values()]
    assert not any("style" in element.attrib or element.tag == "style" for element in elements)
    assert not any(value.startswith("#") and len(value) == 7 and value != "#a-" for value in values if value in COLOURS)
    assert {"var(--series-0)", "var(--series-1)", "var(--ink)"} <= set(values)
    assert any(element.get("stroke-dasharray") for element in elements)  # the constant classifier's line


def test_it_is_described_and_its_points_have_words() -> None:
    root = drawn("a")
    named = {element.get("id"): element.text for element in root.iter()}
    assert [named[name] for name in (root.get("aria-labelledby") or "").split()] == ["A <title>", "words"]
    words = [element.get("data-words") for element in root.iter() if element.get("data-words")]
    assert words == [f"{k}: {p.name}: clean {p.clean}, robust {p.robust}" for k, p in enumerate(POINTS, 1)]
    assert all(element.find("title") is not None for element in root.iter() if element.get("data-words"))


def test_two_of_them_share_no_id_and_refer_to_their_own() -> None:
    first, second = drawn("a"), drawn("b")
    ids = [{e.get("id") for e in root.iter()} - {None} for root in (first, second)]
    assert not ids[0] & ids[1]
    for root, own in ((first, ids[0]), (second, ids[1])):
        uses = [(e.get("href") or "#").removeprefix("#") for e in root.iter("use")]
        assert uses
        assert set(uses) <= own


def test_a_pareto_front_holds_what_nothing_beats() -> None:
    shares = [(80, 40), (90, 30), (85, 35), (84, 30), (90, 20), (70, 40), (85, 35)]
    points = [Point(str(k), wilson(c, 100), wilson(r, 100)) for k, (c, r) in enumerate(shares)]
    best = [
        k for k, (c, r) in enumerate(shares)
        if not any((a >= c and b >= r) and (a, b) != (c, r) for a, b in shares)
    ]  # fmt: skip
    assert sorted(pareto(points)) == best == [0, 1, 2, 6]


def test_legends_of_many_series_have_room() -> None:
    series = {f"a run with a name {k}": [(0.0, "0", wilson(9, 10)), (8.0, "8/255", wilson(4, 10))] for k in range(30)}
    assert "a run with a name 29" in svg(budgets(series, unit="eps").figure)  # else Matplotlib warns, which is an error


def test_what_is_estimated_is_hatched() -> None:
    text = svg(costs([("measured", 100.0, True), ("estimated", 1e5, False)]).figure)
    assert text.count("<pattern") == 1


def test_series_are_told_apart_without_colour() -> None:
    panels = {"loss": {name: [(float(k), 1.0) for k in range(20)] for name in "abc"}}
    lines = histories(panels, x="epoch").figure.axes[0].lines
    assert len({line.get_linestyle() for line in lines}) == 3
