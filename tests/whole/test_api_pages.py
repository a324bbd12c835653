"""API pages: every public name is there with its signature, and docstrings come out as Markdown."""

from __future__ import annotations

import inspect
import re

import api_pages
import pytest

import robust_transfer as rt


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return dict(api_pages.pages(api_pages.read()))


def test_every_public_name_has_a_section_and_a_line_in_the_index(written: dict[str, str]) -> None:
    sections = re.findall(r"^## \S+ \{ #(\S+) \}$", "\n".join(written.values()), re.MULTILINE)
    assert sorted(sections) == sorted(rt.__all__)
    lines = re.findall(r"^- \[`(\w+)`\]\(\w+\.md#\w+\): \S", written["index.md"], re.MULTILINE)
    assert sorted(lines) == sorted(rt.__all__)


def test_signatures_have_the_parameters_that_python_sees() -> None:
    api = api_pages.read()
    for name in rt.__all__:
        thing = getattr(rt, name)
        if inspect.isclass(thing) and (issubclass(thing, Exception) or inspect.isabstract(thing)):
            continue
        seen = [each for each in inspect.signature(thing).parameters if each != "self"]
        code = api_pages.signature(name, api.things[name])
        shown = re.findall(r"(?:[(]|, |^    )\**(\w+)(?=: |[,)=])", code, re.MULTILINE)
        assert set(seen) <= set(shown), f"{name}: {set(seen) - set(shown)} are not shown"


def test_no_role_and_no_double_backtick_is_left(written: dict[str, str]) -> None:
    for name, text in written.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r":\w+:`|``", prose), name


def test_links_lead_to_sections(written: dict[str, str]) -> None:
    anchors = {name: set(re.findall(r"\{ #(\S+) \}", text)) for name, text in written.items()}
    found = 0
    for name, text in written.items():
        for page, anchor in re.findall(r"\]\((\w*(?:\.md)?)#([\w.]+)\)", text):
            assert anchor in anchors[page or name], f"{name}: {page}#{anchor}"
            found += 1
    assert found > 80  # each line of the index is one


def test_docstrings_become_markdown() -> None:
    api = api_pages.read()
    assert api_pages.prose("See :class:`Run`, ``|d|_norm <= eps`` and :meth:`Threat.size`.", api, "threat") == (
        "See [`Run`](run.md#Run), `|d|_norm <= eps` and [`Threat.size`](#Threat.size)."
    )
    assert api_pages.prose("a*b in [0, 1] <c>, :class:`NoSuch`", api, "") == "a\\*b in \\[0, 1\\] \\<c>, `NoSuch`"
    assert api_pages.prose("So:\n\n    x = 1\n    y = 2", api, "") == "So:\n\n```python\nx = 1\ny = 2\n```"


def test_class_variables_are_no_fields_and_inherited_fields_are(written: dict[str, str]) -> None:
    code = api_pages.signature("LwF", api_pages.read().things["LwF"])
    assert "quick" not in code
    assert "strength: float = 1.0" in code
    assert "learning_rate: float" in code
