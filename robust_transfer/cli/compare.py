"""``compare``: paired differences between two evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import AsJson, Seed, as_path, leave_to_one_process, loading
from robust_transfer.messages import show


@app.command()
def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_A",
            parser=as_path,
            help="An evaluated run folder, or a folder of them, one a seed.",
            autocompletion=completion.files,
        ),
    ],
    b: Annotated[Path, typer.Argument(metavar="DIR_B", parser=as_path, autocompletion=completion.files)],
    as_json: AsJson = False,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            help="An HTML file to write, too: a report on all of them.",
            parser=as_path,
            metavar="FILE",
            autocompletion=completion.files,
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Paired differences between two evaluations on the same examples, with 95 % intervals."""
    leave_to_one_process("compare")
    loading("compare")
    from robust_transfer.comparison import compare as measure

    result = measure(a, b, seed=seed)
    if page is not None:
        from robust_transfer.report import write_report

        write_report([a, b], page, comparison=result)
    show(json.dumps(result.to_dict(), indent=2) if as_json else result)
