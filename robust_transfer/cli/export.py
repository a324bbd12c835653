"""``export``: a model for use without this package."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    AsJson,
    Network,
    Normalisation,
    Quiet,
    Threads,
    Weights,
    as_path,
    leave_to_one_process,
    loading,
    make_run,
    read_hints,
)
from robust_transfer.messages import show


class To(StrEnum):
    """Forms of an export."""

    onnx = "onnx"
    torch = "torch"
    timm = "timm"


class Input(StrEnum):
    """Pixel types of an exported network's input."""

    uint8 = "uint8"
    float32 = "float32"


@app.command()
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run folder, or anything in `list sources`.", autocompletion=completion.MODELS
        ),
    ],
    to: Annotated[To, typer.Option("--to", help="onnx, torch (a .pt2 of torch.export) or timm (a folder).")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="The file or folder to write.",
            parser=as_path,
            metavar="FILE_OR_FOLDER",
            autocompletion=completion.files,
        ),
    ],
    pixels: Annotated[
        Input, typer.Option("--input", help="uint8 (N, H, W, 3), or float32 (N, 3, H, W) in [0, 1].")
    ] = Input.uint8,
    resize_inside: Annotated[
        bool,
        typer.Option("--resize-inside", help="onnx, torch: take uint8 images of any size, and resize them inside."),
    ] = False,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            help="Files, folders or patterns to check with. [default: scikit-learn's two photos]",
            autocompletion=completion.files,
        ),
    ] = None,
    as_json: AsJson = False,
    network: Network = None,
    normalisation: Normalisation = None,
    weights: Weights = None,
    threads: Threads = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a model as ONNX, for torch.export or in timm's layout, checked against itself on real images."""
    leave_to_one_process("export")
    loading("export", quiet)
    run = make_run(0, "cpu", "float32", threads, None, False, False, quiet)
    from robust_transfer.exporting import export as write
    from robust_transfer.progress import hushed
    from robust_transfer.sources import load_source

    with run.at_work(), hushed(quiet):
        found = load_source(model, hints=read_hints(network, normalisation, weights))
        made = write(
            found, to.value, out, input=pixels.value, resize_inside=resize_inside, images=images, overwrite=overwrite
        )
    if as_json:
        show(json.dumps(made.to_dict(), indent=2))
    elif not quiet:
        show(made)
