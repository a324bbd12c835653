"""``choose``: from data and a time limit to a recommended network."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    ClassWeights,
    Data,
    Device,
    ImageColumn,
    LabelColumn,
    Out,
    Overwrite,
    Precision,
    Quiet,
    Resume,
    Seed,
    SplitColumn,
    Threads,
    Track,
    leave_to_one_process,
    loading,
    make_run,
    say,
    say_notes,
    seconds_of,
)
from robust_transfer.messages import show

if TYPE_CHECKING:
    from robust_transfer.data import Task
    from robust_transfer.data.formats import ColumnNames

FEW, SHARE = 100, 0.2  # val images that are too few to choose by; the share of train that is then cut off


@app.command()
def choose(
    data: Data,
    out: Out,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="A source to try, see `list sources`; repeatable. [default: the package's]",
            autocompletion=completion.MODELS,
        ),
    ] = None,
    time_limit: Annotated[
        str, typer.Option("--time-limit", help="So long in all, such as 5m or 1h.", autocompletion=completion.TIMES)
    ] = "5m",
    keep: Annotated[
        float,
        typer.Option("--keep", help="Select the most accurate with at least this share of the best robust accuracy."),
    ] = 0.9,
    clean: Annotated[
        float | None,
        typer.Option("--clean", help="Or: select the most robust with at least this clean accuracy, 0 to 1."),
    ] = None,
    threat: Annotated[
        str | None,
        typer.Option(
            "--threat",
            help="norm:eps to judge at; sources that do not say theirs are taken to be trained for it. "
            "[default: the first source's]",
            autocompletion=completion.THREATS,
        ),
    ] = None,
    shots: Annotated[int | None, typer.Option("--shots", help="Images per class, train and val together.")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    val: Annotated[
        float | None,
        typer.Option(
            "--val",
            help="Share of train used as val, 0 to 0.5. [default: the data's own, else 0.1; 0.2 if few]",
        ),
    ] = None,
    class_weights: ClassWeights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, the same as choice.json.")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    quiet: Quiet = False,
) -> None:
    """Try sources and strategies on your images for some minutes; save and evaluate the recommended network."""
    leave_to_one_process("choose")
    loading("choose", quiet)
    run = make_run(seed, device, precision, threads, out, resume, overwrite, quiet, track)
    from robust_transfer.choosing import Rule
    from robust_transfer.choosing import choose as best_of
    from robust_transfer.config import as_dict
    from robust_transfer.data.formats import ColumnNames as Columns
    from robust_transfer.report import write_beside

    rule, limit = Rule(keep=keep, clean=clean), seconds_of(time_limit)
    with run.at_work():
        run.check_out()
        task = _task(data, Columns(image_column, label_column, split_column), shots, seed, val)
        if class_weights is not None:
            task = task.balanced()
        found = best_of(task, sources=source or (), seconds=limit, rule=rule, threat=threat, run=run)
    page = write_beside(out, data=data, run=replace(run, out=None, overwrite=False, precision="float32"))
    show(json.dumps(as_dict(found.choice), indent=2) if as_json else found)
    say(quiet or as_json, f"the page: {page}")


def _task(data: str, columns: ColumnNames, shots: int | None, seed: int, val: float | None) -> Task:
    """Data, with a larger val if a tenth of train would be few images: the whole choice depends on val."""
    from robust_transfer.data import Dataset

    dataset = Dataset(data, image_column=columns.image, label_column=columns.label, split_column=columns.split)
    task, notes = dataset.task(shots=shots, seed=seed, val=val), list[str]()
    own = len(task.val)
    if val is None and shots is None and own < FEW and SHARE * (len(task.train) + own) > own:
        task = dataset.task(seed=seed, val=SHARE)
        notes = [f"val is {len(task.val)} images, {100 * SHARE:.0f} % of train: {own} would be too few to choose by"]
    say_notes([*task.notes, *notes])
    return task
