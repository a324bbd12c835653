"""``report``: one page on one run or on many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import Device, Quiet, Threads, as_path, leave_to_one_process, loading, make_run, say


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            parser=as_path,
            help="Run folders of transfer, pretrain, import and evaluate, or folders of them.",
            autocompletion=completion.files,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="The HTML file to write.", parser=as_path, metavar="FILE", autocompletion=completion.files
        ),
    ] = Path("report.html"),
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Where the evaluated images are. [default: where the evaluation's own command says]",
            autocompletion=completion.DATA,
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Show images: the page then holds pixels of the data.")
    ] = True,
    device: Device = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained page on one run or many: figures, red flags, classes, images, provenance."""
    leave_to_one_process("report")
    loading("report", quiet)
    run = make_run(0, device, "float32", threads, None, False, False, quiet)
    from robust_transfer.report import write_report

    page = write_report(runs, out, data=data, pictures=pictures, run=run)
    say(quiet, f"the page: {page}")
