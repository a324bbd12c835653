"""One self-contained HTML page from a packaged template: no external script, font or image."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from robust_transfer.shown import printable

STYLE = "style.css"  # of every page


def render(template: str, *, room: str = "drawing", style: str = "", script: str = "", **values: Any) -> str:
    """Fill ``template``, a file of ``room``, with the shared style sheet and its own files ``style`` and ``script``.

    Everything is escaped unless marked safe; a missing value raises an error. The page's policy forbids loading
    anything, and runs no style or script but these.
    """
    loaders = [jinja2.PackageLoader("robust_transfer", name) for name in dict.fromkeys((room, "drawing"))]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    styles = [_packaged("drawing", STYLE), *([_packaged(room, style)] if style else [])]
    scripts = [_packaged(room, script)] if script else []
    return environment.get_template(template).render(
        styles=[Markup(text) for text in styles],  # our own files
        scripts=[Markup(text) for text in scripts],
        policy=policy(styles, scripts),
        **values,
    )


def _shown(value: Any) -> Any:
    """Text without control characters and changes of direction, which no escaping removes."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    """Content-Security-Policy of a page with these styles and scripts, and with embedded images."""
    allowed = {"style-src": styles, "script-src": scripts}
    parts = [" ".join([what, *(map(_hash, texts) if texts else ["'none'"])]) for what, texts in allowed.items()]
    return "; ".join(["default-src 'none'", "img-src data:", *parts, "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packaged(room: str, name: str) -> str:
    return resources.files("robust_transfer").joinpath(room, name).read_text(encoding="utf-8")
