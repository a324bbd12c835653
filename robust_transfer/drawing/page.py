"""One self-contained HTML page from a packaged template: no script, no font and no image from anywhere else."""

from __future__ import annotations

from typing import Any

import jinja2


def render(template: str, **values: Any) -> str:
    """Fill ``template`` (a file beside this one). Everything is escaped but what is marked safe; a missing value fails."""
    loader = jinja2.PackageLoader("robust_transfer", "drawing")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    return environment.get_template(template).render(**values)
