"""``data``: description of a data set, before anything is trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    ImageColumn,
    LabelColumn,
    Quiet,
    Seed,
    SplitColumn,
    as_path,
    leave_to_one_process,
    loading,
)
from robust_transfer.messages import show


@app.command()
def data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of parquet files or images, builtin:digits, or hf:OWNER/NAME.",
            autocompletion=completion.DATA,
        ),
    ],
    as_json: AsJson = False,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet",
            help="A PNG to write, with some images of each class.",
            parser=as_path,
            metavar="PATH",
            autocompletion=completion.files,
        ),
    ] = None,
    examples: Annotated[
        int | None, typer.Option("--examples", min=1, help="Read at most so many images. [default: 50,000]")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Describe a data set: splits, classes, sizes, copies, conflicting labels, unusual images."""
    leave_to_one_process("data")
    loading("data", quiet)
    from robust_transfer.data.survey import check_sheet, describe_data, write_contact_sheet
    from robust_transfer.data.survey.describe import LIMIT
    from robust_transfer.progress import tell

    if contact_sheet is not None:
        check_sheet(contact_sheet)
    columns = {"image_column": image_column, "label_column": label_column, "split_column": split_column}
    found = describe_data(name, **columns, examples=LIMIT if examples is None else examples, seed=seed, quiet=quiet)
    show(json.dumps(found.to_dict(), indent=2) if as_json else found)
    if contact_sheet is not None:
        left_out = write_contact_sheet(name, contact_sheet, **columns, seed=seed)
        for sentence in left_out:
            tell(quiet, f"note: {sentence}")
        tell(quiet, f"saved {contact_sheet}")
