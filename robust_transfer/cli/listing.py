"""``list``: what there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from robust_transfer.cli.base import app


class What(StrEnum):
    """What ``list`` lists."""

    sources = "sources"
    networks = "networks"
    data = "data"
    pretraining = "pretraining"
    strategies = "strategies"
    attacks = "attacks"
    recipes = "recipes"


@app.command("list")
def list_(what: Annotated[What | None, typer.Argument(help="One kind of thing; all if left out.")] = None) -> None:
    """What there is: sources, networks, data, pretraining methods, strategies, attacks, recipes."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in [what] if what else list(What):
        table = Table("name", "what it is", title=kind.value, title_justify="left", box=None, pad_edge=False)
        for name, summary in _listing(kind):
            table.add_row(name, summary)
        console.print(table)
        console.print()


def _listing(kind: What) -> list[tuple[str, str]]:
    if kind is What.networks:
        from robust_transfer import networks

        return [*networks.available().items(), ("any other timm network with one head", "by its timm name")]
    if kind is What.sources:
        from robust_transfer.sources import list_sources

        return list(list_sources().items())
    if kind is What.data:
        from robust_transfer.data import FORMATS

        return [(entry.name, entry.summary) for entry in FORMATS]
    if kind is What.recipes:
        from robust_transfer.study import packaged

        return list(packaged().items())
    from robust_transfer.attacks import ATTACKS
    from robust_transfer.pretraining import PRETRAINING
    from robust_transfer.strategies import STRATEGIES

    registries = {What.pretraining: PRETRAINING, What.strategies: STRATEGIES, What.attacks: ATTACKS}
    return [(entry.name, f"{entry.summary} ({entry.paper})") for entry in registries[kind]]  # type: ignore[attr-defined]
