"""The documentation site: its navigation is complete, faults are found, and the built pages load nothing from elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import api_pages
import build_site
import pytest

ROOT = Path(__file__).parents[2]
NAV = tomllib.loads(build_site.CONFIG.read_text(encoding="utf-8"))["project"]["nav"]


def test_the_navigation_names_every_page_once() -> None:
    named = list(build_site.in_nav(NAV))
    assert len(named) == len(set(named))
    docs = ROOT / "docs"
    left_out = {path for pattern in build_site.NO_PAGES for path in docs.glob(pattern)}
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if path not in left_out}
    pages |= {*build_site.FROM_ROOT.values(), *(f"api/{name}" for name, _ in api_pages.pages(api_pages.read()))}
    assert build_site.nav_problems(NAV, pages) == []


def test_a_missing_page_and_a_forgotten_one_are_found() -> None:
    nav = [{"Start": ["a.md", {"More": "b.md"}]}]
    assert build_site.nav_problems(nav, {"a.md", "c.md"}) == [
        "zensical.toml names b.md, which is not there",
        "c.md is not in the navigation of zensical.toml",
    ]


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<link rel="stylesheet" href="//fonts.example/css">', "loads //fonts.example/css"),
        ('<img srcset="x.svg 1x, https://example.org/y.png 2x">', "loads https://example.org/y.png"),
        ('<iframe src="http://example.org"></iframe>', "loads http://example.org"),
        ('<style>@import "https://example.org/a.css";</style>', "loads https://example.org/a.css"),
        ('<p style="background: url(https://example.org/b.png)">', "loads https://example.org/b.png"),
        ('<pre class="mermaid">', "has an element mermaid"),
        ('<img src="no.svg">', "leads to no.svg"),
        ('<a href="no.html">', "leads to no.html"),
        ('<a href="other.html#no">', "leads to other.html#no"),
        ('<a href="#no">', "leads to #no"),
    ],
)
def test_faults_of_a_built_page_are_found(html: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<h1 id="yes">')
    (tmp_path / "x.svg").write_text("<svg/>")
    (tmp_path / "index.html").write_text(html)
    [found] = build_site.problems(tmp_path)
    assert found.startswith(f"index.html {fault}")


def test_what_is_right_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text('<h1 id="yes">')
    (tmp_path / "x.svg").write_text("<svg/>")
    (tmp_path / "x.css").write_text("a { background: url(data:image/svg+xml;x) }")
    page = '<a href="https://example.org"></a><a href="other.html#yes"></a><img src="x.svg"><link href="x.svg">'
    (tmp_path / "index.html").write_text(page)
    assert build_site.problems(tmp_path) == []
    (tmp_path / "x.css").write_text("@font-face { src: url('https://fonts.example/x') }")
    assert build_site.problems(tmp_path) == ["x.css loads https://fonts.example/x"]


def test_links_of_a_page_of_the_root_start_from_docs() -> None:
    assert build_site.moved("[a](docs/data.md#x) [b](LICENSE)") == "[a](data.md#x) [b](LICENSE)"


def test_pictures_are_accessible_and_adapt_to_dark_pages() -> None:
    pictures = sorted((ROOT / "docs" / "concepts").glob("*.svg"))
    assert {path.stem for path in pictures} == {path.stem for path in (ROOT / "docs" / "concepts").glob("*.md")}
    for path in pictures:
        root = ElementTree.parse(path).getroot()
        names = {child.get("id") for child in root if child.tag.rpartition("}")[2] in ("title", "desc") and child.text}
        assert set(root.get("aria-labelledby", "").split()) == names != set()
        assert root.get("role") == "img"
        assert "prefers-color-scheme:dark" in path.read_text(encoding="utf-8")
        assert f"]({path.name})" in path.with_suffix(".md").read_text(encoding="utf-8")


def test_every_word_of_the_glossary_leads_somewhere() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lines = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(lines) > 40
    for _, word, _, more, _ in lines:
        assert re.search(r"\]\(\S+\)", more), word
    words = [line[1].strip().lower() for line in lines]
    assert words == sorted(words)


def test_messages_on_the_page_of_troubles_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| `([a-z][^`]* [^`]*)`", text, re.MULTILINE)
    assert len(quoted) >= 10
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "robust_transfer").rglob("*.py"))
    for message in quoted:
        assert message in code, message


@pytest.mark.slow
def test_the_site_is_built_without_a_fault() -> None:
    site = build_site.build()  # raises with the faults
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {f"{page.removesuffix('.md')}.html" for page in build_site.in_nav(NAV)} <= set(pages)
    for name, text in pages.items():
        addresses = re.findall(r"<(?:script|img|iframe|source|object)\b[^>]*?\b(?:src|data)=[\"']?([^\"'\s>]+)", text)
        addresses += re.findall(r"<link\b[^>]*?href=[\"']?([^\"'\s>]+)", text)
        assert addresses, name
        assert not [each for each in addresses if re.match(r"(?:https?:)?//", each)], name
        assert "googleapis" not in text
        assert "analytics" not in text
    assert '<h2 id="LwF">' in pages["api/strategies.html"]


@pytest.mark.parametrize(
    ("written", "staged"),
    [
        ("[a](../notebooks/a.ipynb)", "[a](notebooks/a.ipynb)"),
        ("[a](../../notebooks/a.ipynb)", "[a](../notebooks/a.ipynb)"),
        ("[a](../choose.md) and notebooks/", "[a](../choose.md) and notebooks/"),
    ],
)
def test_links_to_notebooks_lead_into_the_site(written: str, staged: str) -> None:
    assert build_site.with_notebooks(written) == staged
