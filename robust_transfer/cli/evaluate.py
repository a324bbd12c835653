"""``evaluate``: clean and robust accuracy of a model."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated, TypeVar

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import (
    BatchSize,
    ClassMapFile,
    Data,
    Device,
    ImageColumn,
    LabelColumn,
    MaybeOut,
    Network,
    Normalisation,
    Overwrite,
    Precision,
    Quiet,
    Resume,
    Seed,
    SplitColumn,
    Threads,
    Threat,
    Track,
    Val,
    Weights,
    leave_to_one_process,
    loading,
    make_run,
    pick_split,
    read_hints,
    read_source,
    read_split,
    read_task,
    seconds_of,
)
from robust_transfer.messages import show

T = TypeVar("T", int, str)


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="What is evaluated: a run folder, or anything in `list sources`.",
            autocompletion=completion.MODELS,
        ),
    ],
    data: Data,
    split: Annotated[
        str, typer.Option("--split", help="test, val (the model's own) or train.", autocompletion=completion.SPLITS)
    ] = "test",
    threat: Threat = None,
    attack: Annotated[
        str,
        typer.Option(
            "--attack",
            help="quick, strong, autoattack, pgd-20, pgd-20:loss=margin,restarts=10+fgsm ...",
            autocompletion=completion.names_of("attacks"),
        ),
    ] = "pgd-20",
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="What MODEL was transferred from, for attacks by it. [default: bundled, if it was]",
            autocompletion=completion.MODELS,
        ),
    ] = None,
    transfer_attack_examples: Annotated[
        int | None,
        typer.Option(
            "--transfer-attack-examples",
            help="Images for the transfer-specific attacks (through the source, feature loss, unseen norm); 0 disables "
            "them. [default: as many as the attack's cost allows]",
        ),
    ] = None,
    red_flag_examples: Annotated[
        int | None,
        typer.Option(
            "--red-flag-examples",
            help="Images for the gradient-masking checks; 0 disables them. [default: as many as the attack's cost allows]",
        ),
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="200 images for the transfer-specific attacks and 64 for the checks.")
    ] = False,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also clean and robust accuracy of each class.")
    ] = False,
    curve: Annotated[
        str | None,
        typer.Option(
            "--curve",
            help="Robust accuracy at other budgets, too: 1/255,2/255,4/255,8/255.",
            autocompletion=completion.one_of("1/255,2/255,4/255,8/255"),
        ),
    ] = None,
    smallest_eps: Annotated[
        bool, typer.Option("--smallest-eps", help="Also the smallest budget that breaks each example, by bisection.")
    ] = False,
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify",
            help="Also certificates: smoothing, smoothing:sigma=0.5,n=10000, feature-shift; joined by +.",
            autocompletion=completion.CERTIFICATES,
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also",
            metavar="NORM:EPS",
            help="A further threat for the same images and attacks, such as l2:0.5; repeatable.",
            autocompletion=completion.THREATS,
        ),
    ] = None,
    corruptions: Annotated[
        bool,
        typer.Option("--corruptions", help="Also accuracy under 15 common corruptions at five severities (an extra)."),
    ] = False,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--time-limit",
            help="Stop attacking after so long, such as 90s, 5m or 1h; --resume goes on.",
            autocompletion=completion.TIMES,
        ),
    ] = None,
    keep_deltas: Annotated[
        bool, typer.Option("--keep-deltas", help="Also write the adversarial images to --out, for `verify`.")
    ] = False,
    examples: Annotated[int | None, typer.Option("--examples", help="Size of a seeded, stratified subset.")] = None,
    shots: Annotated[
        int | None, typer.Option("--shots", help="The shots the model was given (val and train splits).")
    ] = None,
    network: Network = None,
    normalisation: Normalisation = None,
    weights: Weights = None,
    out: MaybeOut = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, the same as evaluation.json.")
    ] = False,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    split_column: SplitColumn = None,
    class_map: ClassMapFile = None,
    val: Val = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    quiet: Quiet = False,
    beyond: Annotated[int | None, typer.Option("--beyond", hidden=True)] = None,
    checks: Annotated[int | None, typer.Option("--checks", hidden=True)] = None,
    budget: Annotated[str | None, typer.Option("--budget", hidden=True)] = None,
) -> None:
    """Measure clean and robust accuracy, with intervals and per-example outcomes."""
    leave_to_one_process("evaluate")
    loading("evaluate", quiet)
    run = make_run(seed, device, precision, threads, out, resume, overwrite, quiet, track)
    from robust_transfer.attacks import parse_attack
    from robust_transfer.certification import parse_certifiers
    from robust_transfer.evaluation import evaluate as measure
    from robust_transfer.progress import stage
    from robust_transfer.sources import load_source

    parse_attack(attack)  # a wrong name is told before anything is loaded
    certificates_asked = parse_certifiers(certify) if certify is not None else []
    examined = _renamed("--beyond", beyond, "--transfer-attack-examples", transfer_attack_examples)
    checked = _renamed("--checks", checks, "--red-flag-examples", red_flag_examples)
    limit = _renamed("--budget", budget, "--time-limit", time_limit)
    seconds = seconds_of(limit) if limit is not None else None
    with run.at_work():
        known = load_source(source) if source is not None else None
        hints = read_hints(network, normalisation, weights)
        read = partial(read_task, data, image_column, label_column, split_column, shots=shots, seed=seed, val=val)
        checkpoint, task = read_source(model, hints, read, quiet=quiet)
        with stage(f"reading {data}", None, quiet):
            images = read_split(split, checkpoint, read) if task is None else pick_split(task, split)
        result = measure(
            checkpoint,
            images,
            threat=threat,
            attack=attack,
            examples=examples,
            run=run,
            batch_size=batch_size,
            source=known,
            red_flag_examples=checked,
            transfer_attack_examples=examined,
            thorough=thorough,
            keep_deltas=keep_deltas,
            time_limit=seconds,
            per_class=per_class,
            curve=curve.split(",") if curve is not None else None,
            smallest_eps=smallest_eps,
            certify=certificates_asked,
            also=also or [],
            corruptions=corruptions,
            class_map=class_map,
        )
    show(json.dumps(result.to_dict(), indent=2) if as_json else result)


def _renamed(old: str, before: T | None, new: str, now: T | None) -> T | None:
    """Value of an option under either of its names, with a warning for the old one."""
    from robust_transfer.errors import ConfigError

    if before is None:
        return now
    if now is not None:
        raise ConfigError(f"{old} is the old name of {new}: give {new} only")
    show(f"robust-transfer: {old} is now called {new}; the old name goes with the next release", error=True)
    return before
