"""``pretrain``: a source to transfer from, trained from scratch or from another one."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.catalogue import check_name
from robust_transfer.cli.options import (
    BatchSize,
    CardAsJson,
    Data,
    Device,
    Duplicates,
    Epochs,
    ImageColumn,
    LabelColumn,
    Out,
    Overwrite,
    Precision,
    Quiet,
    Resume,
    Seed,
    Setting,
    SplitColumn,
    Threads,
    Track,
    Val,
    loading,
    make_run,
    read_settings,
    read_source,
    read_task,
    say_or_json,
)
from robust_transfer.defaults import DEFAULT_NETWORK, DEFAULT_THREAT


@app.command()
def pretrain(
    data: Data,
    out: Out,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            help=f"A network's name; see `list networks`. [default: {DEFAULT_NETWORK}]",
            autocompletion=completion.names_of("networks"),
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", help="See `list pretraining`.", autocompletion=completion.names_of("pretraining"))
    ] = "fast",
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Source that `fare` starts from; see `list sources`.", autocompletion=completion.MODELS
        ),
    ] = None,
    threat: Annotated[
        str, typer.Option("--threat", help="norm:eps to train for.", autocompletion=completion.THREATS)
    ] = DEFAULT_THREAT,
    settings: Setting = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="Side of the images. [default: their own]")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    duplicates: Duplicates = "keep",
    val: Val = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    as_json: CardAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a network as a source to transfer from: from scratch, or another source's by `fare`."""
    check_name("pretraining", method)
    loading("pretrain", quiet)
    run = make_run(seed, device, precision, threads, out, resume, overwrite, quiet, track)
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.preprocessing import Preprocessing
    from robust_transfer.pretraining import PRETRAINING
    from robust_transfer.threat import Threat as ThreatModel

    chosen = PRETRAINING.get(method).from_settings(read_settings(settings, epochs, batch_size))
    trained_for = ThreatModel.parse(threat)
    with run.at_work():
        run.check_out()
        read = partial(
            read_task, data, image_column, label_column, split_column, seed=seed, val=val, duplicates=duplicates
        )
        source, task = read_source(start, Hints(), read, quiet=quiet) if start is not None else (None, None)
        if task is None:
            ahead = Preprocessing(size=input_size) if input_size is not None else None
            task = read(prepare=source.preprocessing if source is not None else ahead)
        checkpoint = chosen(task, network=network, threat=trained_for, input_size=input_size, start=source, run=run)
        say_or_json(quiet, f"saved {out}: {_figures(checkpoint.card.metrics)}", checkpoint.card, as_json)


def _figures(metrics: dict[str, Any]) -> str:
    figures = [f"{k} {v:.3f}" for k, v in metrics.items() if isinstance(v, float)]
    return ", ".join(figures) or "no figures (there is no val split)"
