"""``inspect``: describe third-party weights without creating anything."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    ImageColumn,
    InputSize,
    LabelColumn,
    Network,
    Normalisation,
    Setting,
    SourceThreat,
    SplitColumn,
    Weights,
    leave_to_one_process,
    loading,
    read_hints,
)
from robust_transfer.messages import show
from robust_transfer.shown import printable


@app.command()
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A file of weights, or see `list sources`.", autocompletion=completion.MODELS
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Images like those of its training, to find out what no file tells.",
            autocompletion=completion.DATA,
        ),
    ] = None,
    network: Network = None,
    settings: Setting = None,
    normalisation: Normalisation = None,
    input_size: InputSize = None,
    threat: SourceThreat = None,
    weights: Weights = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    as_json: AsJson = False,
) -> None:
    """Describe a source: wrapper, network, normalisation, inferred settings and the evidence for them."""
    leave_to_one_process("inspect")
    loading("inspect")
    from robust_transfer.sources.inspection import inspected

    hints = read_hints(network, normalisation, weights, threat, input_size, settings)
    page = inspected(source, hints, images_of(data, image_column, label_column, split_column))
    if as_json:
        show(json.dumps(page.to_json(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in page.rows():
        table.add_row(label, Text(printable(text)))  # names in a file are no markup
    console.print(table)
    head, rows = page.evidence()
    if rows:
        tried = Table(
            *head, title="readings that were tried, the nearest first", title_justify="left", box=None, pad_edge=False
        )
        for row in rows:
            tried.add_row(*(Text(printable(cell)) for cell in row))
        console.print()
        console.print(tried)
    if page.undecided:
        console.print(Text(f"\nundecided: {printable(page.undecided)}"))
        console.print(Text("ways to say: --data, --normalisation, --set KEY=VALUE, --network"))


def images_of(data: str | None, image_column: str | None, label_column: str | None, split_column: str | None) -> Any:
    """Images to find out by: the training images, or the test images of a set that has no others; None without data."""
    if data is None:
        return None
    from robust_transfer.cli.options import read_task

    task = read_task(data, image_column, label_column, split_column)
    return task.train if len(task.train) else task.test
