"""SVG inside a page: themed by its style sheet, described for screen readers, without inline styles.

A strict page admits no ``style`` attribute, and Matplotlib writes little else: each becomes attributes. Colours
become the page's variables, so that they also fit a dark theme.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from robust_transfer.drawing.figures import Drawing
from robust_transfer.drawing.plots import COLOURS, style, svg

THEMED = {colour: f"var(--series-{index})" for index, colour in enumerate(COLOURS)}
THEMED |= {"#000000": "var(--ink)", "#222222": "var(--ink)", "#888888": "var(--soft)", "#b0b0b0": "var(--soft)"}
BACKGROUND = "#ffffff"


def inline(drawing: Drawing, *, key: str, title: str, description: str) -> str:
    """``drawing`` as an SVG element; ``key`` must be unique in its page."""
    with style():
        root = ElementTree.fromstring(svg(drawing.figure))
    for parent in list(root.iter()):
        for child in list(parent):
            if _name(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _name(element.tag)
        attributes = {_name(name): value for name, value in element.attrib.items()}
        attributes |= _declared(attributes.pop("style", ""))
        element.attrib = {name: _own(name, value, key) for name, value in attributes.items()}
    for line, words in drawing.words.items():
        _name_points(root, f"{key}-{line}", words)
    box = root.get("viewBox", "")
    root.attrib = {"class": "figure", "viewBox": box, "role": "img", "aria-labelledby": f"{key}-title {key}-text"}
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    for place, (name, words_, ending) in enumerate((("title", title, "title"), ("desc", description, "text"))):
        told = ElementTree.Element(name, {"id": f"{key}-{ending}"})
        told.text = words_
        root.insert(place, told)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _name(tag: str) -> str:
    """Tag name without its namespace."""
    return tag.rpartition("}")[2]


def _declared(text: str) -> dict[str, str]:
    """Declarations of a ``style`` attribute as attributes."""
    pairs = [part.partition(":") for part in text.split(";") if part.strip()]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    font = found.pop("font", None)
    if font is not None and (size := re.search(r"([\d.]+)px", font)):
        found["font-size"] = size[1]
        found |= {"font-weight": "bold"} if re.match(r"bold|700", font) else {}
    return found


def _own(name: str, value: str, key: str) -> str:
    """Value of an attribute with this page's colours and this figure's ids."""
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return value.replace("#", f"#{key}-")
    if name in ("fill", "stroke") and value == BACKGROUND:
        return "none"
    return THEMED.get(value, re.sub(r"url\(#", f"url(#{key}-", value))


def _name_points(root: ElementTree.Element, line: str, words: list[str]) -> None:
    """Attach tooltips to the markers of a line."""
    for group in root.iter("g"):
        if group.get("id") == line:
            for mark, told in zip(group.iter("use"), words, strict=False):
                mark.set("data-words", told)
                hint = ElementTree.SubElement(mark, "title")
                hint.text = told
