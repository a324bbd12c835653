"""``study`` and ``demo``: strategies side by side."""

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
def study(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="See `list recipes`; or a YAML file.")],
    out: Out,
    scale: Annotated[str | None, typer.Option("--scale", help="smoke, laptop or paper. [default: laptop]")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=D", help="Where a data set of the recipe is; repeatable."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PLACE=VALUE", help="Change the recipe, as in grid.0.seed=[0]; repeatable."),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Processes on this machine.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Make every N-th result only.")] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster's address; `local` starts one here.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Validate, say what would be made and how long it takes.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run a grid of experiments; what is there is not made again."""
    run = make_run(0, device, precision, threads, None, False, False, quiet)
    from robust_transfer.study import dry_run, load_recipe, run_study

    chosen = load_recipe(recipe, scale=scale, data=_places(data), changes=changes or [])
    if dry:
        print(dry_run(chosen, out, run=run))
        return
    table = run_study(chosen, out, run=run, jobs=jobs, shard=shard, ray=ray)
    say(quiet, f"{len(table)} cells: {out / 'table.parquet'}, {out / 'report.md'}")
    failed = int(table["failure"].notna().sum()) if len(table) else 0
    if failed:
        from robust_transfer.errors import DivergedError

        raise DivergedError(f"in {failed} of {len(table)} cells training diverged: see {out / 'report.md'}")


@app.command()
def demo(
    data: Annotated[
        str, typer.Option("--data", help="Your own folder, in place of the built-in digits.")
    ] = "builtin:digits",
    out: Out = Path("demo"),
    source: Annotated[str, typer.Option("--source", help="bundled, or a run folder.")] = "bundled",
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            help="A naturally trained network of the source's shape. [default: natural for bundled, else none]",
        ),
    ] = None,
    scratch: Annotated[
        bool, typer.Option("--scratch/--no-scratch", help="Also train the source's network from scratch.")
    ] = True,
    shots: Annotated[
        int | None,
        typer.Option("--shots", help="Images per class, train and val together. [default: 10 digits, all of --data]"),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="How many test images are attacked.")] = 100,
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
    """The claim on one page in two minutes: a robust source, its natural twin and training from scratch, under attack."""
    run = make_run(seed, device, precision, threads, out, False, overwrite, quiet)
    from robust_transfer.demo import run_demo
    from robust_transfer.sources import BUNDLED, NATURAL, load_source

    run.check_out()
    checkpoint = load_source(source)
    if control is None and source == BUNDLED:
        control = NATURAL
    twin = load_source(control) if control is not None else None
    if shots is None and data == "builtin:digits":
        shots = 10
    task = read_task(data, image_column, label_column, shots=shots, seed=seed, val=val)
    page = run_demo(
        checkpoint, task, data=data, examples=examples, run=run, source_name=source, control=twin, scratch=scratch
    )
    say(quiet, f"the page: {page}")


def _places(pairs: list[str] | None) -> dict[str, str]:
    """``["cifar10=path/to/it"]`` as a dictionary."""
    from robust_transfer.errors import ConfigError

    places = {}
    for pair in pairs or []:
        name, equals, place = pair.partition("=")
        if not equals or not name or not place:
            raise ConfigError(f"--data takes NAME=D here, as in cifar10=path/to/cifar10, not {pair!r}")
        places[name] = place
    return places
