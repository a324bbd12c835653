"""``list``: all available names."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from robust_transfer.cli.base import app
from robust_transfer.cli.catalogue import catalogue, networks, recipes
from robust_transfer.messages import show


class What(StrEnum):
    """Kinds of things that ``list`` shows."""

    sources = "sources"
    networks = "networks"
    data = "data"
    pretraining = "pretraining"
    strategies = "strategies"
    attacks = "attacks"
    recipes = "recipes"


@app.command("list")
def list_(
    what: Annotated[What | None, typer.Argument(help="One kind of name; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: kind, name, summary.")] = False,
) -> None:
    """List sources, networks, data formats, pretraining methods, strategies, attacks, recipes."""
    if as_json:
        kinds = [what] if what else list(What)
        show(json.dumps({kind.value: dict(_listing(kind, whole=what is not None)) for kind in kinds}, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for kind in [what] if what else list(What):
        table = Table("name", "what it is", title=kind.value, title_justify="left", box=None, pad_edge=False)
        for name, summary in _listing(kind, whole=what is not None):
            table.add_row(escape(name), escape(summary))
        console.print(table)
        console.print()


def _listing(kind: What, *, whole: bool) -> list[tuple[str, str]]:
    if kind is What.networks:
        return [*networks().items(), ("any other timm network with one head", "by its timm name")]
    if kind is What.sources:
        from robust_transfer.sources import list_sources

        return list(list_sources(zoos=whole).items())
    if kind is What.recipes:
        return list(recipes().items())
    return [(name, f"{summary} ({paper})" if paper else summary) for name, summary, paper in catalogue(kind.value)]
