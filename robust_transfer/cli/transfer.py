"""``transfer``: from a source to a network for your task."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.catalogue import check_name
from robust_transfer.cli.options import (
    BatchSize,
    CardAsJson,
    ClassWeights,
    Data,
    Device,
    Duplicates,
    Epochs,
    ImageColumn,
    LabelColumn,
    Network,
    Normalisation,
    Out,
    Overwrite,
    Precision,
    Quiet,
    Resume,
    Seed,
    Setting,
    SourceThreat,
    SplitColumn,
    Threads,
    Track,
    Val,
    Weights,
    loading,
    make_run,
    read_hints,
    read_settings,
    read_source,
    read_task,
    say_or_json,
)


@app.command()
def transfer(
    source: Annotated[str, typer.Option("--source", help="See `list sources`.", autocompletion=completion.MODELS)],
    data: Data,
    strategy: Annotated[
        str, typer.Option("--strategy", help="See `list strategies`.", autocompletion=completion.names_of("strategies"))
    ],
    out: Out,
    settings: Setting = None,
    network: Network = None,
    normalisation: Normalisation = None,
    threat: SourceThreat = None,
    weights: Weights = None,
    shots: Annotated[int | None, typer.Option("--shots", help="Images per class, train and val together.")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    duplicates: Duplicates = "keep",
    val: Val = None,
    class_weights: ClassWeights = None,
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
    """Transfer a source's features to your own images."""
    check_name("strategies", strategy)
    loading("transfer", quiet)
    run = make_run(seed, device, precision, threads, out, resume, overwrite, quiet, track)
    from robust_transfer.strategies import STRATEGIES

    chosen = STRATEGIES.get(strategy).from_settings(read_settings(settings, epochs, batch_size))
    with run.at_work():
        run.check_out()
        read = partial(
            read_task,
            data,
            image_column,
            label_column,
            split_column,
            shots=shots,
            seed=seed,
            val=val,
            duplicates=duplicates,
        )
        hints = read_hints(network, normalisation, weights, threat)
        checkpoint, task = read_source(source, hints, read, quiet=quiet)
        if task is None:
            task = read(prepare=checkpoint.preprocessing)
        if class_weights is not None:
            task = task.balanced()
        result = chosen(checkpoint, task, run=run)
        told = f"saved {out}: {result.card.criterion}. Next: robust-transfer evaluate {out} --data {data}"
        say_or_json(quiet, told, result.card, as_json)
