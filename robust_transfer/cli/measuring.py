"""``evaluate``, ``verify`` and ``compare``: what figures are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    BatchSize,
    ClassMapFile,
    Data,
    Device,
    ImageColumn,
    LabelColumn,
    MaybeOut,
    Overwrite,
    Precision,
    Quiet,
    Resume,
    Seed,
    Threads,
    Threat,
    Val,
    make_run,
    read_split,
)


@app.command()
def evaluate(
    source: Annotated[str, typer.Argument(metavar="S", help="bundled, or a run folder.")],
    data: Data,
    split: Annotated[str, typer.Option("--split", help="test, val (the model's own) or train.")] = "test",
    threat: Threat = None,
    attack: Annotated[
        str, typer.Option("--attack", help="quick, strong, autoattack, pgd-20, pgd-20:loss=margin,restarts=10+fgsm ...")
    ] = "pgd-20",
    origin: Annotated[
        str | None,
        typer.Option("--source", help="What S was transferred from, for attacks by it. [default: bundled, if it was]"),
    ] = None,
    beyond: Annotated[
        int, typer.Option("--beyond", help="On how many images a transferred model's own threats are tried. 0: none.")
    ] = 200,
    checked: Annotated[
        int, typer.Option("--checks", help="On how many images reasons to doubt the figures are looked for. 0: none.")
    ] = 64,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Clean and robust accuracy of each class, too.")
    ] = False,
    curve: Annotated[
        str | None, typer.Option("--curve", help="Robust accuracy at other budgets, too: 1/255,2/255,4/255,8/255.")
    ] = None,
    smallest_eps: Annotated[
        bool, typer.Option("--smallest-eps", help="The smallest budget that breaks each example, too, by bisection.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Stop attacking after so long, such as 90s, 5m or 1h; --resume goes on."),
    ] = None,
    keep_deltas: Annotated[
        bool, typer.Option("--keep-deltas", help="Write the adversarial images to --out, too, for `verify`.")
    ] = False,
    examples: Annotated[int | None, typer.Option("--examples", help="A seeded, stratified subset of so many.")] = None,
    shots: Annotated[
        int | None, typer.Option("--shots", help="The shots the model was given (val and train splits).")
    ] = None,
    out: MaybeOut = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, the same as evaluation.json.")
    ] = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    class_map: ClassMapFile = None,
    val: Val = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure clean and robust accuracy, with intervals and per-example outcomes."""
    run = make_run(seed, device, precision, threads, out, resume, overwrite, quiet)
    from robust_transfer.attacks import parse_attack
    from robust_transfer.evaluation import evaluate as measure
    from robust_transfer.sources import load_source

    parse_attack(attack)  # a wrong name is told before anything is loaded
    checkpoint, known = load_source(source), load_source(origin) if origin else None
    images = read_split(split, checkpoint, data, image_column, label_column, shots=shots, seed=seed, val=val)
    result = measure(
        checkpoint,
        images,
        threat=threat,
        attack=attack,
        examples=examples,
        run=run,
        batch_size=batch_size,
        source=known,
        beyond=beyond,
        checked=checked,
        keep_deltas=keep_deltas,
        budget=_seconds(budget) if budget else None,
        per_class=per_class,
        curve=curve.split(",") if curve else None,
        smallest_eps=smallest_eps,
        class_map=class_map,
    )
    print(json.dumps(result.to_dict(), indent=2) if as_json else result)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An evaluation that was made with --keep-deltas.")],
    data: Data,
    source: Annotated[
        str | None, typer.Argument(metavar="[S]", help="The model that was evaluated. [default: the one in DIR]")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="test, val (the model's own) or train.")] = "test",
    shots: Annotated[
        int | None, typer.Option("--shots", help="The shots the model was given (val and train splits).")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    class_map: ClassMapFile = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score a claim again from the adversarial images that were kept, without running an attack."""
    run = make_run(seed, device, "float32", threads, None, False, False, True)
    from robust_transfer.errors import DataError
    from robust_transfer.evaluation import verify as check
    from robust_transfer.sources import load_source

    checkpoint = load_source(source or str(folder))
    images = read_split(split, checkpoint, data, image_column, label_column, shots=shots, seed=seed, val=val)
    result = check(folder, checkpoint, images, run=run, class_map=class_map)
    print(result)
    if result.problems:
        raise DataError(f"the claim in {folder} does not stand: {result.problems[0]}")


@app.command()
def compare(
    a: Annotated[
        Path, typer.Argument(metavar="DIR_A", help="An evaluated run folder, or a folder of them, one a seed.")
    ],
    b: Annotated[Path, typer.Argument(metavar="DIR_B")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seed: Seed = 0,
) -> None:
    """Paired differences between two evaluations on the same examples, with 95 % intervals."""
    from robust_transfer.comparison import compare as measure

    result = measure(a, b, seed=seed)
    print(json.dumps(result.to_dict(), indent=2) if as_json else result)


def _seconds(text: str) -> float:
    """``90s``, ``5m``, ``1.5h`` or a number of seconds."""
    from robust_transfer.errors import ConfigError

    number, unit = (text[:-1], text[-1]) if text[-1:] in "smh" else (text, "s")
    try:
        return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        raise ConfigError(f"cannot read the budget {text!r}: write 90s, 5m or 1h") from None
