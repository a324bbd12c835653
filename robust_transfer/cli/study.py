"""``study``: a grid of experiments."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    Device,
    Out,
    Precision,
    Quiet,
    Threads,
    Track,
    loading,
    make_run,
    say,
)

PAGE = "report.html"


@app.command()
def study(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="See `list recipes`; or a YAML file.", autocompletion=completion.names_of("recipes")
        ),
    ],
    out: Out,
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            help="smoke, laptop or paper. [default: laptop]",
            autocompletion=completion.one_of("smoke", "laptop", "paper"),
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="NAME=D",
            help="Where a data set of the recipe is; repeatable.",
            autocompletion=completion.anything,
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PLACE=VALUE",
            help="Change the recipe, as in grid.0.seed=[0]; repeatable.",
            autocompletion=completion.anything,
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Processes on this machine.")] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Make every N-th result only.", autocompletion=completion.anything),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="A Ray cluster's address; `local` starts one here.",
            autocompletion=completion.one_of("local"),
        ),
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Validate the recipe; print the plan and its estimated time.")
    ] = False,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", help="With --dry-run: number of machines like this one, with --jobs processes each."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    track: Track = None,
    quiet: Quiet = False,
) -> None:
    """Run a grid of experiments; finished cells are not made again."""
    if nodes is not None and not dry:
        from robust_transfer.errors import ConfigError

        raise ConfigError("--nodes is for --dry-run: several machines compute with --ray, or with a --shard each")
    loading("study", quiet)
    run = make_run(0, device, precision, threads, None, False, False, quiet, track)
    from robust_transfer.study import dry_run, load_recipe, run_study

    chosen = load_recipe(recipe, scale=scale, data=_places(data), changes=changes or [])
    if dry:
        say(False, str(dry_run(chosen, out, run=run, jobs=jobs, nodes=nodes)))
        return
    table = run_study(chosen, out, run=run, jobs=jobs, shard=shard, ray=ray)
    from robust_transfer.launch import is_main_process

    if is_main_process():
        from robust_transfer.report import write_report

        drawn = (
            chosen.filters is not None
        )  # pictures of features are what such a study is for; of other images `report` has some
        write_report([out], out / PAGE, pictures=drawn, run=replace(run, precision="float32"))
    say(quiet, f"{len(table)} cells: {out / 'table.parquet'}, {out / PAGE}")
    failures = [str(why) for why in table["failure"].dropna()] if len(table) else []
    if failures:
        from robust_transfer.errors import DivergedError
        from robust_transfer.study.given_up import GIVEN_UP

        lost = sum(why.startswith(GIVEN_UP) for why in failures)
        told = [f"in {len(failures) - lost} of {len(table)} cells training diverged"] if lost < len(failures) else []
        told += [f"{lost} of {len(table)} cells were given up, as workers died of them"] if lost else []
        raise DivergedError(f"{'; '.join(told)}: see {out / PAGE}")


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
