"""``import``: third-party weights as a run folder."""

from __future__ import annotations

from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.inspect import images_of
from robust_transfer.cli.options import (
    CardAsJson,
    ImageColumn,
    InputSize,
    LabelColumn,
    Network,
    Normalisation,
    Out,
    Overwrite,
    Quiet,
    Setting,
    SourceThreat,
    SplitColumn,
    Weights,
    loading,
    make_run,
    read_hints,
    say_or_json,
)


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A file of weights, or see `list sources`.", autocompletion=completion.MODELS
        ),
    ],
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Images like those of its training, to find out what no file tells.",
            autocompletion=completion.DATA,
        ),
    ] = None,
    network: Network = None,
    settings: Setting = None,
    normalisation: Normalisation = None,
    input_size: InputSize = None,
    threat: SourceThreat = None,
    weights: Weights = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    overwrite: Overwrite = False,
    as_json: CardAsJson = False,
    quiet: Quiet = False,
) -> None:
    """Convert third-party weights to a run folder, which serves as a source and as a model."""
    loading("import", quiet)
    run = make_run(0, "cpu", "float32", None, out, False, overwrite, quiet)
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.progress import hushed
    from robust_transfer.sources import load_source

    hints = read_hints(network, normalisation, weights, threat, input_size, settings) or Hints()
    with run.at_work():
        run.check_out()
        images = images_of(data, image_column, label_column, split_column)
        with hushed(quiet):
            found = load_source(source, hints=hints, images=images)
        saved = found.save(out)
        spec = saved.card.network
        threatened = saved.card.threat or saved.card.origin.get("threat", "not stated")
        told = f"saved {out}: {spec.name}, {spec.num_classes} classes, {spec.input_size} pixels, threat {threatened}"
        say_or_json(quiet, told, saved.card, as_json)
