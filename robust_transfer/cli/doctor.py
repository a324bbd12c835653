"""``doctor``: installation, speed, and advice."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    Device,
    Precision,
    Quiet,
    Threads,
    leave_to_one_process,
    loading,
    make_run,
)
from robust_transfer.messages import show


@app.command()
def doctor(
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also measure compiled steps: one or two minutes the first time.")
    ] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Run the checks, half a minute.")
    ] = True,
    as_json: AsJson = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Check the installation and the machine: versions, speeds, caches, extras, a self-test. Status 1 if it fails."""
    leave_to_one_process("doctor")
    loading("doctor", quiet)
    run = make_run(0, device, precision, threads, None, False, False, quiet)
    from robust_transfer.config import as_dict
    from robust_transfer.doctor import diagnose

    found = diagnose(run, compiled=compiled, tested=self_test)
    show(json.dumps(as_dict(found), indent=2) if as_json else found)
    if not found.healthy:
        raise typer.Exit(1)
