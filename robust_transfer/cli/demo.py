"""``demo``: strategies side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    Device,
    ImageColumn,
    LabelColumn,
    Out,
    Overwrite,
    Precision,
    Quiet,
    Seed,
    SplitColumn,
    Threads,
    Val,
    loading,
    make_run,
    read_task,
    say,
)


@app.command()
def demo(
    data: Annotated[
        str,
        typer.Option(
            "--data", help="Your own folder, in place of the built-in digits.", autocompletion=completion.DATA
        ),
    ] = "builtin:digits",
    out: Out = Path("demo"),
    source: Annotated[
        str, typer.Option("--source", help="bundled, natural, or a run folder.", autocompletion=completion.MODELS)
    ] = "bundled",
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            help="A naturally trained network of the source's shape. [default: natural for bundled, else none]",
            autocompletion=completion.MODELS,
        ),
    ] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch/--no-scratch", help="Also train the source's network from scratch.")
    ] = True,
    shots: Annotated[
        int | None,
        typer.Option("--shots", help="Images per class, train and val together. [default: 10 digits, all of --data]"),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="Number of test images to attack.")] = 100,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compare on one page, in two minutes: a robust source, its natural twin and training from scratch, under attack."""
    loading("demo", quiet)
    run = make_run(seed, device, precision, threads, out, False, overwrite, quiet)
    from robust_transfer.demo import run_demo
    from robust_transfer.sources import BUNDLED, NATURAL, load_source

    with run.at_work():
        run.check_out()
        checkpoint = load_source(source)
        if control is None and source == BUNDLED:
            control = NATURAL
        twin = load_source(control) if control is not None else None
        if shots is None and data == "builtin:digits":
            shots = 10
        task = read_task(data, image_column, label_column, split_column, shots=shots, seed=seed, val=val)
        page = run_demo(
            checkpoint, task, data=data, examples=examples, run=run, source_name=source, control=twin, scratch=scratch
        )
        say(quiet, f"the page: {page}")
