"""``predict``: classes of images, and the perturbation size that flips them."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    Device,
    Network,
    Normalisation,
    Precision,
    Quiet,
    Seed,
    Threads,
    Threat,
    Weights,
    leave_to_one_process,
    loading,
    make_run,
    read_hints,
)
from robust_transfer.messages import show
from robust_transfer.shown import in_csv, one_line

if TYPE_CHECKING:
    from robust_transfer.prediction import Prediction

STDIN = "-"
WIDEST = 24  # of a class in the table


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run folder, or anything in `list sources`.", autocompletion=completion.MODELS
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Files, folders, patterns in quotes; - reads paths, a line each.",
            autocompletion=completion.files,
        ),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="Number of likeliest classes to print.")] = 1,
    threat: Threat = None,
    attack: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help="Measure what flips each image, too, by bisection: pgd-20, strong ... (slow).",
            autocompletion=completion.names_of("attacks"),
        ),
    ] = None,
    classes: Annotated[
        int, typer.Option("--classes", min=1, help="Number of next classes in the linear estimate.")
    ] = 9,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines: one object per image.")] = False,
    network: Network = None,
    normalisation: Normalisation = None,
    weights: Weights = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Predict the classes of images, with probabilities and the perturbation size that flips them."""
    leave_to_one_process("predict")
    loading("predict", quiet)
    run = make_run(seed, device, precision, threads, None, False, False, quiet)
    from robust_transfer.attacks import parse_attack
    from robust_transfer.errors import ConfigError, DataError
    from robust_transfer.prediction import predict as predictions
    from robust_transfer.progress import hushed
    from robust_transfer.sources import load_source

    if as_csv and as_json:
        raise ConfigError("--csv and --json are two formats: give one of them")
    if attack is not None:
        parse_attack(attack)  # a wrong name is told before anything is loaded
    with hushed(quiet):
        found = load_source(model, hints=read_hints(network, normalisation, weights))
    made = predictions(found, _paths(images, quiet), top=top, threat=threat, attack=attack, classes=classes, run=run)
    width = min(WIDEST, max(map(len, found.card.class_names)))
    write = _Json() if as_json else _Csv(top, attack is not None) if as_csv else _Table(width, quiet)
    total = unread = 0
    try:
        for one in made:
            write(one)
            total, unread = total + 1, unread + (one.error is not None)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if unread:
        raise DataError(f"{unread} of {total} images could not be read or predicted: see above")
    if not total:
        raise DataError("there are no images: give files, folders or patterns")


def _paths(images: Iterable[str], quiet: bool) -> Iterator[str]:
    """Paths as they are given; those on standard input where ``-`` stands, each when its turn comes."""
    from robust_transfer.progress import tell

    for one in images:
        if one == STDIN:
            if sys.stdin.isatty():
                tell(quiet, "paths on standard input, a line each; Ctrl-D ends")
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield one


class _Json:
    """One line of JSON per image."""

    def __call__(self, one: Prediction) -> None:
        show(json.dumps(one.to_dict(), allow_nan=False))


class _Csv:
    """One row per image, always with the same columns; errors also go to standard error."""

    def __init__(self, top: int, attacked: bool) -> None:
        ranks = [f"_{rank}" if rank > 1 else "" for rank in range(1, top + 1)]
        columns = ["file", *(f"{what}{rank}" for rank in ranks for what in ("class", "probability"))]
        columns += ["norm", "linear_eps", *(["attack", "stood_at", "broken_at"] if attacked else []), "error"]
        self.writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        self.ranks, self.begun = ranks, False

    def __call__(self, one: Prediction) -> None:
        if not self.begun:
            self.writer.writeheader()
            self.begun = True
        row: dict[str, Any] = one.to_dict()
        for rank, pair in zip(self.ranks, row.pop("top", ()), strict=False):
            row |= {f"{what}{rank}": value for what, value in pair.items()}
        self.writer.writerow(
            {column: in_csv(value) if isinstance(value, str) else value for column, value in row.items()}
        )
        sys.stdout.flush()


class _Table:
    """One line per image, the file's name last; errors go to standard error."""

    def __init__(self, width: int, quiet: bool) -> None:
        self.width, self.quiet, self.begun = width, quiet, False

    def __call__(self, one: Prediction) -> None:
        from robust_transfer.prediction.record import in_units
        from robust_transfer.progress import tell

        if one.error is not None:
            show(one_line(f"robust-transfer: {one.error}"), error=True)
            return
        if not self.begun:
            tell(self.quiet, self._legend(one))
            ranks = "  ".join(f"{'class':<{self.width}} {'prob.':>7}" for _ in one.classes)
            attacked = f"  {'stood at':>10}  {'broken at':>10}" if one.attack is not None else ""
            show(f"{ranks}  {'linear ' + one.norm:>11}{attacked}  file")
            self.begun = True
        shown: Callable[[float | None], str] = lambda eps: in_units(eps, one.norm)  # noqa: E731
        ranks = "  ".join(
            f"{name[: self.width]:<{self.width}} {100 * probability:>5.1f} %"
            for name, probability in zip(one.classes, one.probabilities, strict=True)
        )
        attacked = f"  {shown(one.stood_at):>10}  {shown(one.broken_at):>10}" if one.attack is not None else ""
        show(one_line(f"{ranks}  {shown(one.linear_eps):>11}{attacked}  {one.file}"))

    def _legend(self, one: Prediction) -> str:
        legend = (
            f"linear {one.norm}: what would flip the image if the network were linear around it, an estimate that may be too "
            "large or too small"
        )
        if one.attack is None:
            return f"{legend}; --attack measures"
        return f"{legend}; broken at: what {one.attack} has flipped it with, so that it is no more robust than that"
