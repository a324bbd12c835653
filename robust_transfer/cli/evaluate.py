"""``evaluate``: clean and robust accuracy of a model."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    BatchSize,
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
    pick_split,
    read_task,
)


@app.command()
def evaluate(
    source: Annotated[str, typer.Argument(metavar="S", help="bundled, or a run folder.")],
    data: Data,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
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
    images = pick_split(read_task(data, image_column, label_column, shots=shots, seed=seed, val=val), split)
    result = measure(
        checkpoint,
        images,
        threat=threat,
        attack=attack,
        examples=examples,
        run=run,
        batch_size=batch_size,
        split_name=split,
        source=known,
        beyond=beyond,
        checked=checked,
        keep_deltas=keep_deltas,
        budget=_seconds(budget) if budget else None,
        per_class=per_class,
        curve=curve.split(",") if curve else None,
        smallest_eps=smallest_eps,
    )
    print(json.dumps(result.to_dict(), indent=2) if as_json else result)


def _seconds(text: str) -> float:
    """``90s``, ``5m``, ``1.5h`` or a number of seconds."""
    from robust_transfer.errors import ConfigError

    number, unit = (text[:-1], text[-1]) if text[-1:] in "smh" else (text, "s")
    try:
        return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        raise ConfigError(f"cannot read the budget {text!r}: write 90s, 5m or 1h") from None
