"""``demo``: strategies side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    Threads,
    Val,
    make_run,
    read_task,
    say,
)


@app.command()
def demo(
    data: Annotated[
        str, typer.Option("--data", help="Your own folder, in place of the built-in digits.")
    ] = "builtin:digits",
    out: Out = Path("demo"),
    source: Annotated[str, typer.Option("--source", help="bundled, or a run folder.")] = "bundled",
    shots: Annotated[
        int | None,
        typer.Option("--shots", help="Images per class, train and val together. [default: 50 digits, all of --data]"),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="How many test images are attacked.")] = 200,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """The whole road in two minutes: strategies side by side on one page."""
    run = make_run(seed, device, precision, threads, out, False, overwrite, quiet)
    from robust_transfer.demo import run_demo
    from robust_transfer.sources import load_source

    run.check_out()
    checkpoint = load_source(source)
    if shots is None and data == "builtin:digits":
        shots = 50
    task = read_task(data, image_column, label_column, shots=shots, seed=seed, val=val)
    page = run_demo(checkpoint, task, data=data, examples=examples, run=run, source_name=source)
    say(quiet, f"the page: {page}")
