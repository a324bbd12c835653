"""``verify``: score an evaluation again."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    ClassMapFile,
    Data,
    Device,
    ImageColumn,
    LabelColumn,
    Quiet,
    Seed,
    SplitColumn,
    Threads,
    Val,
    as_path,
    leave_to_one_process,
    loading,
    make_run,
    read_split,
    read_task,
)
from robust_transfer.messages import show


@app.command()
def verify(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=as_path,
            help="An evaluation made with --keep-deltas.",
            autocompletion=completion.files,
        ),
    ],
    data: Data,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[S]",
            help="The model that was evaluated. [default: the one in DIR]",
            autocompletion=completion.MODELS,
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="test, val or train.", autocompletion=completion.SPLITS)
    ] = "test",
    shots: Annotated[
        int | None, typer.Option("--shots", help="The shots the model was given (val and train splits).")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    class_map: ClassMapFile = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score an evaluation again from its stored adversarial images, without running an attack."""
    leave_to_one_process("verify")
    loading("verify", quiet)
    run = make_run(seed, device, "float32", threads, None, False, False, quiet)
    from robust_transfer.config import as_dict
    from robust_transfer.errors import DataError
    from robust_transfer.evaluation import verify as check
    from robust_transfer.progress import stage
    from robust_transfer.sources import load_source

    with run.at_work():
        checkpoint = load_source(source or str(folder))
        read = partial(read_task, data, image_column, label_column, split_column, shots=shots, seed=seed, val=val)
        with stage(f"reading {data}", None, quiet):
            images = read_split(split, checkpoint, read)
        result = check(folder, checkpoint, images, run=run, class_map=class_map)
    show(json.dumps(as_dict(result), indent=2) if as_json else result)
    if result.problems:
        raise DataError(f"the claim in {folder} does not stand: {result.problems[0]}")
