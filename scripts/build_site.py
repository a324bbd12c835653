"""Build of the documentation site into ``build/site``; whatever is wrong with it ends the build.

    python scripts/build_site.py

``docs/`` and two pages of the root are copied to ``build/docs``, the API pages are written beside them, Zensical makes the
site with warnings as errors, and every built page is checked: it loads nothing from elsewhere, its links lead somewhere.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import api_pages
import reference_pages

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "zensical.toml"
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NO_PAGES = ("reproduction/*/report.md",)  # reports as a study writes them; reproduction.md tells them
KINDS = (".md", ".svg", ".png", ".css")
ELSEWHERE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
STYLE_URL = re.compile(r"""(?:url\(|@import\s)\s*["']?\s*((?:https?:)?//[^"')\s]+)""", re.IGNORECASE)
# What the theme's script would fetch a library from elsewhere for, if a page had it.
FETCHES = {"mermaid", "pyodide", "glightbox", "md-source"}


class Page(HTMLParser):
    """Links of a page, resources that it loads, and its link targets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.names: set[str] = set()
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's addresses, name and classes."""
        given = {name: value or "" for name, value in attrs}
        self.names |= {given[key] for key in ("id", "name") if key in given}
        self.classes |= set(given.get("class", "").split())
        self.loads += STYLE_URL.findall(given.get("style", ""))
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href", ""))
        elif tag != "a":
            self.loads += [given[key] for key in ("src", "data", "poster") if key in given and not is_data(given[key])]
            self.loads += [each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()]

    def handle_data(self, data: str) -> None:
        """Note resources loaded by a style of the page."""
        if self.cdata_elem == "style":
            self.loads += STYLE_URL.findall(data)


def is_data(address: str) -> bool:
    """True for an image embedded in its address."""
    return address.startswith("data:")


def stage(out: Path) -> None:
    """Put all pages and pictures into one folder, the written ones among them."""
    shutil.rmtree(out, ignore_errors=True)
    docs = ROOT / "docs"
    left_out = {path for pattern in NO_PAGES for path in docs.glob(pattern)}
    for path in sorted(docs.rglob("*")):
        if path.suffix in KINDS and path not in left_out:
            to = out / path.relative_to(docs)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                to.write_text(with_notebooks(path.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                shutil.copyfile(path, to)
    shutil.copytree(ROOT / "notebooks", out / "notebooks", ignore=shutil.ignore_patterns(".*"))
    for name, new in FROM_ROOT.items():
        (out / new).write_text(moved(ROOT.joinpath(name).read_text(encoding="utf-8")), encoding="utf-8")
    for name, page in reference_pages.PAGES.items():
        (out / "reference" / name).write_text(page(), encoding="utf-8")
    api_pages.write(out / "api")


def with_notebooks(text: str) -> str:
    """Page of ``docs/`` whose links to notebooks, which lie beside that folder, lead into it."""
    return re.sub(r"\]\(\.\./((?:\.\./)*notebooks/)", r"](\1", text)


def moved(text: str) -> str:
    """Page of the root as one of ``docs/``: its links start from there."""
    return re.sub(r"\]\(docs/", "](", text)


def in_nav(nav: Any) -> Iterator[str]:
    """Pages that the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from in_nav(each)


def nav_problems(nav: Any, pages: set[str]) -> list[str]:
    """Pages that are missing, or that the navigation does not lead to."""
    named = list(in_nav(nav))
    gone = [f"zensical.toml names {page}, which is not there" for page in named if page not in pages]
    return gone + [f"{page} is not in the navigation of zensical.toml" for page in sorted(pages - set(named))]


def problems(site: Path) -> list[str]:
    """Problems of a built site: resources loaded from elsewhere, broken links and pictures."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where} loads {each}" for each in page.loads if ELSEWHERE.match(each)]
        found += [f"{where} has an element {each}, for which a script is fetched" for each in page.classes & FETCHES]
        within = {each for each in [*page.loads, *page.leads] if not re.match(r"[a-z]+:|//", each)}
        if path.name != "404.html":  # its addresses start from wherever the site is put
            lost = sorted(each for each in within if not is_there(path, each, pages))
            found += [f"{where} leads to {each}, which is not there" for each in lost]
    for path in sorted(site.rglob("*.css")):
        styles = path.read_text(encoding="utf-8")
        found += [f"{path.relative_to(site)} loads {each}" for each in STYLE_URL.findall(styles)]
    return found


def is_there(page: Path, address: str, pages: dict[Path, Page]) -> bool:
    """True where a link of a page leads to a file of the site, and to a place on it."""
    name, _, anchor = unquote(address).partition("#")
    target = (page.parent / name.partition("?")[0]).resolve() if name else page
    if target.is_dir():
        target /= "index.html"
    return target.is_file() and (not anchor or target not in pages or anchor in pages[target].names | {"__top"})


def build() -> Path:
    """Build and check the site; raises :class:`SystemExit` with what is wrong."""
    project = tomllib.loads(CONFIG.read_text(encoding="utf-8"))["project"]
    docs, site = (ROOT / str(project[key]) for key in ("docs_dir", "site_dir"))
    stage(docs)
    shutil.rmtree(site, ignore_errors=True)
    wrong = nav_problems(project["nav"], {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")})
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(CONFIG)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if made.returncode:
        wrong.append(re.sub(r"\x1b\[[\d;]*m", "", (made.stdout + made.stderr).split("Traceback")[0]))
    else:
        wrong += problems(site)
    if wrong:
        raise SystemExit("\n".join(["the site has faults:", *wrong]))
    return site


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    site = build().relative_to(ROOT)
    print(f"{site}/index.html; with search: python -m http.server --directory {site}")


if __name__ == "__main__":
    main()
