"""Options shared by commands, and their conversion."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from robust_transfer.cli import completion
from robust_transfer.messages import show

if TYPE_CHECKING:
    from robust_transfer.checkpoint import Checkpoint
    from robust_transfer.data import Split, Task
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.preprocessing import Preprocessing
    from robust_transfer.run import Run


def as_path(path: str | Path) -> Path:
    """Path as it is typed, with ``~`` for the home folder (which a shell leaves alone in ``--out=~/x``).

    Some versions of typer hand a default over, too, which is a path already.
    """
    from robust_transfer.errors import ConfigError
    from robust_transfer.files import expanded

    if not str(path).strip():  # it would be the folder that one is in
        raise ConfigError("a path is empty: write . for the current folder")
    return expanded(path)


Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="A folder of images or parquet files, a table, an archive, builtin:digits, or hf:OWNER/NAME.",
        autocompletion=completion.DATA,
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A setting of the method; repeatable.", autocompletion=completion.anything
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", help="The run folder to write.", parser=as_path, autocompletion=completion.files, metavar="PATH"
    ),
]
MaybeOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="A folder to write evaluation.json and outcomes.parquet to.",
        parser=as_path,
        autocompletion=completion.files,
        metavar="PATH",
    ),
]
Threat = Annotated[
    str | None,
    typer.Option(
        "--threat",
        help="norm:eps, such as linf:8/255 or l2:0.5. [default: the card's]",
        autocompletion=completion.THREATS,
    ),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", help="The column that holds the images.", autocompletion=completion.anything),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", help="The column that holds the labels.", autocompletion=completion.anything),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        "--split-column",
        help="The column that says train, val or test, if it is called otherwise.",
        autocompletion=completion.anything,
    ),
]
Val = Annotated[float | None, typer.Option("--val", help="Share of train that is cut off as val, 0 to 0.5.")]
Duplicates = Annotated[
    str,
    typer.Option(
        "--duplicates",
        help="keep, or drop: leave copies of val and test images out of train.",
        autocompletion=completion.one_of("keep", "drop"),
    ),
]
ClassWeights = Annotated[
    Literal["balanced"] | None,
    typer.Option("--class-weights", help="balanced: equal total weight of each class, in training and on val."),
]
ClassMapFile = Annotated[
    Path | None,
    typer.Option(
        "--class-map",
        help="A YAML, JSON or CSV file: class in the data, class of the model.",
        autocompletion=completion.files,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=completion.DEVICES)
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"], typer.Option("--precision", help="Precision of networks.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images per step.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads. [default: all]")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training images.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Empty --out first.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="NAME",
        help="Tell tensorboard, wandb, mlflow or trackio, too; repeatable.",
        autocompletion=completion.names_of("trackers"),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
CardAsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, the same as card.json.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no text but results.")]

Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        help="The network of a file of weights. [default: found out]",
        autocompletion=completion.names_of("networks"),
    ),
]
Normalisation = Annotated[
    str | None,
    typer.Option(
        "--normalisation",
        help="imagenet, cifar10, none ..., or means/deviations. [default: found out]",
        autocompletion=completion.names_of("normalisations"),
    ),
]
InputSize = Annotated[int | None, typer.Option("--input-size", help="Side of the images that it reads, in pixels.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Which weights of the file: best, model_state_dict ...", autocompletion=completion.anything
    ),
]
SourceThreat = Annotated[
    str | None,
    typer.Option(
        "--threat",
        help="norm:eps that the source was trained for, where it does not say.",
        autocompletion=completion.THREATS,
    ),
]


def loading(command: str, quiet: bool = False) -> None:
    """Announce that PyTorch is being loaded, which takes seconds; silent if it is loaded, or another process announces it."""
    from robust_transfer.launch import is_main_process
    from robust_transfer.progress import tell

    if "torch" not in sys.modules and is_main_process():
        tell(quiet, f"robust-transfer {command}: loading PyTorch ...")


def make_run(
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    track: list[str] | None = None,
) -> Run:
    """Run from the options; raises :class:`ConfigError`."""
    from robust_transfer.config import build
    from robust_transfer.run import Run

    settings = {
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "out": out,
        "track": track or [],
    }
    return build(Run, {**settings, "resume": resume, "overwrite": overwrite, "quiet": quiet}, "the command line")


def read_settings(pairs: list[str] | None, epochs: float | None, batch_size: int | None) -> dict[str, Any]:
    """``--set`` and the settings that have an option of their own."""
    from robust_transfer.config import parse_settings

    settings = parse_settings(pairs or [])
    for key, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None:
            settings[key] = value
    return settings


def read_hints(
    network: str | None,
    normalisation: str | None,
    weights: str | None,
    threat: str | None = None,
    input_size: int | None = None,
    settings: list[str] | None = None,
) -> Hints | None:
    """Hints for a file of weights from the options; None without any."""
    if all(each is None for each in (network, normalisation, weights, threat, input_size, settings)):
        return None
    from robust_transfer.config import parse_settings
    from robust_transfer.foreign.hints import Hints
    from robust_transfer.foreign.normalisations import parse_normalisation
    from robust_transfer.threat import Threat as ThreatModel

    return Hints(
        network=network,
        normalisation=None if normalisation is None else parse_normalisation(normalisation),
        weights=weights,
        threat=None if threat is None else ThreatModel.parse(threat),
        size=input_size,
        settings=parse_settings(settings) if settings else None,
    )


def read_task(
    data: str,
    image_column: str | None,
    label_column: str | None,
    split_column: str | None,
    *,
    shots: int | None = None,
    seed: int = 0,
    val: float | None = None,
    duplicates: str = "keep",
    prepare: Preprocessing | None = None,
) -> Task:
    """Data from the options; the loader's notes go to standard error. ``prepare``: see :func:`load_task`."""
    from robust_transfer.data import Dataset

    ahead = prepare if shots is None else None  # a few images are decoded again sooner than all are kept
    dataset = Dataset(
        data, image_column=image_column, label_column=label_column, split_column=split_column, prepare=ahead
    )
    task = dataset.task(shots=shots, seed=seed, val=val, duplicates=duplicates)  # type: ignore[arg-type]  # checked there
    say_notes(task.notes)
    return task


def read_source(
    name: str, hints: Hints | None, read: Callable[[], Task], *, quiet: bool
) -> tuple[Checkpoint, Task | None]:
    """Source called ``name``; and the data, if the training images had to be read as evidence."""
    from robust_transfer.errors import CheckpointError
    from robust_transfer.foreign.evidence import UndecidedError
    from robust_transfer.progress import hushed
    from robust_transfer.sources import load_source
    from robust_transfer.sources.fitting import AUTO, fitting

    try:
        with hushed(quiet):
            return load_source(name, hints=hints), None
    except UndecidedError as undecided:
        task = read()
        if not len(task.train):
            raise CheckpointError(
                f"{undecided}; the data has no training images to find out by (test images decide nothing): import the "
                "weights once, with images of their own"
            ) from None
        with hushed(quiet):
            found = load_source(name, hints=hints, images=task.train)
        if name == AUTO:
            say_notes([f"the source is {fitting(task.train)}: the images have {task.train.short_side} pixels a side"])
        return found, task


def seconds_of(text: str) -> float:
    """``90s``, ``5m``, ``1.5h`` or a number of seconds."""
    from robust_transfer.errors import ConfigError

    number, unit = (text[:-1], text[-1]) if text[-1:] in tuple("smh") else (text, "s")
    try:
        return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        raise ConfigError(f"cannot read the time limit {text!r}: write 90s, 5m or 1h") from None


def say_notes(notes: Sequence[str]) -> None:
    """Print notes on standard error, also with --quiet: they are about the figures."""
    for note in notes:
        show(f"note: {note}", error=True)


def pick_split(task: Task, name: str) -> Split:
    """One of a task's splits by its name."""
    from robust_transfer.errors import ConfigError
    from robust_transfer.registry import unknown

    splits = {"train": task.train, "val": task.val, "test": task.test}
    if name not in splits:
        raise ConfigError(unknown("split", name, list(splits)))
    return splits[name]


def read_split(name: str, checkpoint: Checkpoint, read: Callable[..., Task]) -> Split:
    """Split called ``name``; as ``val`` the checkpoint's own val images, where its card keeps their fingerprints."""
    if name != "val" or checkpoint.trained_on is None:
        return pick_split(read(), name)
    from robust_transfer.evaluation.own_val import own_val

    task = read(shots=None, seed=0, val=None)
    found = own_val(checkpoint, task)
    say_notes([note for note in found.notes if note not in task.notes])
    return found


def leave_to_one_process(what: str) -> None:
    """End this process, unless it is the main one of those that a launcher started: several would do ``what`` over again."""
    from robust_transfer.launch import place

    if place().rank:
        show(f"process {place().rank} of {place().world}: {what} takes one process, which is process 0", error=True)
        raise typer.Exit


def say_or_json(quiet: bool, text: str, record: Any, as_json: bool) -> None:
    """Print ``record`` as JSON where that was asked for, else say the text; see :func:`say`."""
    import json

    from robust_transfer.config import as_dict
    from robust_transfer.launch import place

    if as_json and not place().rank:
        show(json.dumps(as_dict(record), indent=2))
    else:
        say(quiet, text)


def say(quiet: bool, text: str) -> None:
    """Print in the writing process, unless quiet; other processes print that they have written nothing."""
    from robust_transfer.launch import place

    if place().rank:
        show(f"process {place().rank} of {place().world}: process 0 writes and reports", error=True)
    elif not quiet:
        show(text)
