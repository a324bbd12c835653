"""``rank``: sources in the order of what is predicted for them on some data, in seconds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    Data,
    Device,
    ImageColumn,
    LabelColumn,
    Precision,
    Quiet,
    Seed,
    SplitColumn,
    Threads,
    leave_to_one_process,
    loading,
    make_run,
    read_task,
)
from robust_transfer.messages import show


@app.command()
def rank(
    data: Data,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCES]...",
            help="Sources to order, see `list sources`. [default: the package's]",
            autocompletion=completion.MODELS,
        ),
    ] = None,
    threat: Annotated[
        str | None,
        typer.Option(
            "--threat",
            help="norm:eps to predict for. [default: the first source's]",
            autocompletion=completion.THREATS,
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="Accuracy to order by: robust, or clean.",
            autocompletion=completion.one_of("robust", "clean"),
        ),
    ] = "robust",
    source_data: Annotated[
        list[str] | None,
        typer.Option(
            "--source-data",
            help="Data that sources were trained on, to measure their features' shift; repeatable.",
            autocompletion=completion.DATA,
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", help="Training images, at most, in proportion to classes.")
    ] = 2000,
    shots: Annotated[int | None, typer.Option("--shots", help="Images per class, train and val together.")] = None,
    val: Annotated[
        float | None,
        typer.Option("--val", help="Share of train used as val, 0 to 0.5. [default: the data's own, else 0.1]"),
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Order sources by the accuracies predicted for a probe of each on your images, which are not attacked."""
    leave_to_one_process("rank")
    loading("rank", quiet)
    run = make_run(seed, device, precision, threads, None, False, False, quiet)
    from typing import cast

    from robust_transfer.config import as_dict
    from robust_transfer.data import load_task
    from robust_transfer.ranking import rank as ranked
    from robust_transfer.ranking.ranking import By

    columns = image_column, label_column, split_column
    task = read_task(data, *columns, shots=shots, seed=seed, val=val)
    found = ranked(
        task,
        sources=sources or (),
        threat=threat,
        by=cast(By, by),
        source_data=[load_task(each) for each in source_data or ()],
        examples=examples,
        run=run,
    )
    show(json.dumps(as_dict(found), indent=2) if as_json else found)
