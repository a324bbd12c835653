"""The command line: parses, calls the public API, prints. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import errno
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from robust_transfer.data import Split, Task
    from robust_transfer.run import Run

app = typer.Typer(
    name="robust-transfer",
    help="Adversarially robust transfer learning: robust features in, an accurate and robust classifier out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
# Wrong options and the like. Some versions of typer carry a click of their own, so that click's name is not this class.
USAGE: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

Data = Annotated[
    str, typer.Option("--data", help="A folder of parquet files or images, builtin:digits, or hf:OWNER/NAME.")
]
Setting = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; repeatable.")
]
Out = Annotated[Path, typer.Option("--out", help="The run folder to write.")]
MaybeOut = Annotated[
    Path | None, typer.Option("--out", help="A folder to write evaluation.json and outcomes.parquet to.")
]
Threat = Annotated[
    str | None, typer.Option("--threat", help="norm:budget, such as linf:8/255 or l2:0.5. [default: the card's]")
]
ImageColumn = Annotated[str | None, typer.Option("--image-column", help="The column that holds the images.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="The column that holds the labels.")]
Val = Annotated[float | None, typer.Option("--val", help="Share of train that is cut off as val, 0 to 0.5.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, float32 or bfloat16.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images per step.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads. [default: all]")]
Epochs = Annotated[float | None, typer.Option("--epochs", help="Passes over the training images.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Empty --out first.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars, no text but results.")]


class What(StrEnum):
    """What ``list`` lists."""

    sources = "sources"
    networks = "networks"
    data = "data"
    pretraining = "pretraining"
    strategies = "strategies"
    attacks = "attacks"
    recipes = "recipes"


def _show_version(wanted: bool) -> None:
    if wanted:
        from robust_transfer import __version__

        print(f"robust-transfer {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command("list")
def list_(what: Annotated[What | None, typer.Argument(help="One kind of thing; all if left out.")] = None) -> None:
    """What there is: sources, networks, data, pretraining methods, strategies, attacks, recipes."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for kind in [what] if what else list(What):
        table = Table("name", "what it is", title=kind.value, title_justify="left", box=None, pad_edge=False)
        for name, summary in _listing(kind):
            table.add_row(name, summary)
        console.print(table)
        console.print()


def _listing(kind: What) -> list[tuple[str, str]]:
    if kind is What.networks:
        from robust_transfer import networks

        return [*networks.available().items(), ("any other timm network with one head", "by its timm name")]
    if kind is What.sources:
        from robust_transfer.sources import list_sources

        return list(list_sources().items())
    if kind is What.data:
        from robust_transfer.data import FORMATS

        return list(FORMATS.items())
    if kind is What.recipes:
        from robust_transfer.study import packaged

        return list(packaged().items())
    from robust_transfer.attacks import ATTACKS
    from robust_transfer.pretraining import PRETRAINING
    from robust_transfer.strategies import STRATEGIES

    registries = {What.pretraining: PRETRAINING, What.strategies: STRATEGIES, What.attacks: ATTACKS}
    return [(entry.name, f"{entry.summary} ({entry.paper})") for entry in registries[kind]]  # type: ignore[attr-defined]


@app.command()
def pretrain(
    data: Data,
    out: Out,
    network: Annotated[str, typer.Option("--network", help="A network's name; see `list networks`.")] = "wrn-16-2",
    method: Annotated[str, typer.Option("--method", help="See `list pretraining`.")] = "fast",
    threat: Annotated[str, typer.Option("--threat", help="norm:budget to train for.")] = "linf:8/255",
    settings: Setting = None,
    input_size: Annotated[
        int | None, typer.Option("--input-size", help="Side of the images. [default: their own]")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    val: Val = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a network from scratch, adversarially or naturally, as a source to transfer from."""
    run = _run(seed, device, precision, threads, out, resume, overwrite, quiet)
    from robust_transfer.config import build
    from robust_transfer.pretraining import PRETRAINING
    from robust_transfer.threat import Threat as ThreatModel

    chosen = build(PRETRAINING.get(method), _settings(settings, epochs, batch_size), f"pretraining method {method!r}")
    budget = ThreatModel.parse(threat)
    run.check_out()
    task = _task(data, image_column, label_column, seed=seed, val=val)
    checkpoint = chosen(task, network=network, threat=budget, input_size=input_size, run=run)
    _say(quiet, f"saved {out}: {_figures(checkpoint.card.metrics)}")


@app.command()
def transfer(
    source: Annotated[str, typer.Option("--source", help="bundled, or a run folder.")],
    data: Data,
    strategy: Annotated[str, typer.Option("--strategy", help="See `list strategies`.")],
    out: Out,
    settings: Setting = None,
    shots: Annotated[int | None, typer.Option("--shots", help="Images per class, train and val together.")] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    val: Val = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Hand a source's features on to your own images."""
    run = _run(seed, device, precision, threads, out, resume, overwrite, quiet)
    from robust_transfer.sources import load_source
    from robust_transfer.strategies import STRATEGIES

    chosen = STRATEGIES.get(strategy).from_settings(_settings(settings, epochs, batch_size))
    run.check_out()
    checkpoint = load_source(source)
    task = _task(data, image_column, label_column, shots=shots, seed=seed, val=val)
    result = chosen(checkpoint, task, run=run)
    _say(quiet, f"saved {out}: {result.card.criterion}. Next: robust-transfer evaluate {out} --data {data}")


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
    run = _run(seed, device, precision, threads, out, resume, overwrite, quiet)
    from robust_transfer.attacks import parse_attack
    from robust_transfer.evaluation import evaluate as measure
    from robust_transfer.sources import load_source

    parse_attack(attack)  # a wrong name is told before anything is loaded
    checkpoint, known = load_source(source), load_source(origin) if origin else None
    images = _split(_task(data, image_column, label_column, shots=shots, seed=seed, val=val), split)
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


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An evaluation that was made with --keep-deltas.")],
    data: Data,
    source: Annotated[
        str | None, typer.Argument(metavar="[S]", help="The model that was evaluated. [default: the one in DIR]")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    shots: Annotated[
        int | None, typer.Option("--shots", help="The shots the model was given (val and train splits).")
    ] = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score a claim again from the adversarial images that were kept, without running an attack."""
    run = _run(seed, device, "float32", threads, None, False, False, True)
    from robust_transfer.errors import DataError
    from robust_transfer.evaluation import verify as check
    from robust_transfer.sources import load_source

    checkpoint = load_source(source or str(folder))
    images = _split(_task(data, image_column, label_column, shots=shots, seed=seed, val=val), split)
    result = check(folder, checkpoint, images, run=run)
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


@app.command()
def study(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="See `list recipes`; or a YAML file.")],
    out: Out,
    scale: Annotated[str | None, typer.Option("--scale", help="smoke, laptop or paper. [default: laptop]")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=D", help="Where a data set of the recipe is; repeatable."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PLACE=VALUE", help="Change the recipe, as in grid.0.seed=[0]; repeatable."),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Processes on this machine.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", metavar="I/N", help="Make every N-th result only.")] = None,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster's address; `local` starts one here.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Validate, say what would be made and how long it takes.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Run a grid of experiments; what is there is not made again."""
    run = _run(0, device, precision, threads, None, False, False, quiet)
    from robust_transfer.study import dry_run, load_recipe, run_study

    chosen = load_recipe(recipe, scale=scale, data=_places(data), changes=changes or [])
    if dry:
        print(dry_run(chosen, out, run=run))
        return
    table = run_study(chosen, out, run=run, jobs=jobs, shard=shard, ray=ray)
    _say(quiet, f"{len(table)} cells: {out / 'table.parquet'}, {out / 'report.md'}")
    failed = int(table["failure"].notna().sum()) if len(table) else 0
    if failed:
        from robust_transfer.errors import DivergedError

        raise DivergedError(f"in {failed} of {len(table)} cells training diverged: see {out / 'report.md'}")


@app.command()
def demo(
    data: Annotated[
        str, typer.Option("--data", help="Your own folder, in place of the built-in digits.")
    ] = "builtin:digits",
    out: Out = Path("demo"),
    source: Annotated[str, typer.Option("--source", help="bundled, or a run folder.")] = "bundled",
    shots: Annotated[
        int | None,
        typer.Option("--shots", help="Images per class, train and val together. [default: 50 digits, all of --data]"),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="How many test images are attacked.")] = 200,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    val: Val = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """The whole road in two minutes: strategies side by side on one page."""
    run = _run(seed, device, precision, threads, out, False, overwrite, quiet)
    from robust_transfer.demo import run_demo
    from robust_transfer.sources import load_source

    run.check_out()
    checkpoint = load_source(source)
    if shots is None and data == "builtin:digits":
        shots = 50
    task = _task(data, image_column, label_column, shots=shots, seed=seed, val=val)
    page = run_demo(checkpoint, task, data=data, examples=examples, run=run)
    _say(quiet, f"the page: {page}")


def _run(
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> Run:
    from robust_transfer.config import build
    from robust_transfer.run import Run

    settings = {"seed": seed, "device": device, "precision": precision, "threads": threads, "out": out}
    return build(Run, {**settings, "resume": resume, "overwrite": overwrite, "quiet": quiet}, "the command line")


def _settings(pairs: list[str] | None, epochs: float | None, batch_size: int | None) -> dict[str, Any]:
    from robust_transfer.config import parse_settings

    settings = parse_settings(pairs or [])
    for key, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None:
            settings[key] = value
    return settings


def _task(
    data: str,
    image_column: str | None,
    label_column: str | None,
    *,
    shots: int | None = None,
    seed: int = 0,
    val: float | None = None,
) -> Task:
    from robust_transfer.data import load_task

    return load_task(data, shots=shots, seed=seed, val=val, image_column=image_column, label_column=label_column)


def _places(pairs: list[str] | None) -> dict[str, str]:
    """``["cifar10=path/to/it"]`` as a dictionary."""
    from robust_transfer.errors import ConfigError

    places = {}
    for pair in pairs or []:
        name, equals, place = pair.partition("=")
        if not equals or not name or not place:
            raise ConfigError(f"--data takes NAME=D here, as in cifar10=path/to/cifar10, not {pair!r}")
        places[name] = place
    return places


def _seconds(text: str) -> float:
    """``90s``, ``5m``, ``1.5h`` or a number of seconds."""
    from robust_transfer.errors import ConfigError

    number, unit = (text[:-1], text[-1]) if text[-1:] in "smh" else (text, "s")
    try:
        return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        raise ConfigError(f"cannot read the budget {text!r}: write 90s, 5m or 1h") from None


def _split(task: Task, name: str) -> Split:
    from robust_transfer.errors import ConfigError
    from robust_transfer.registry import unknown

    splits = {"train": task.train, "val": task.val, "test": task.test}
    if name not in splits:
        raise ConfigError(unknown("split", name, list(splits)))
    return splits[name]


def _figures(metrics: dict[str, Any]) -> str:
    figures = [f"{k} {v:.3f}" for k, v in metrics.items() if isinstance(v, float)]
    return ", ".join(figures) or "no figures (there is no val split)"


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        print(text)


def main() -> None:
    """Entry point. Exit status: 0; 2 for what the user can mend; 3 where training diverged; 1 for our own bug."""
    from robust_transfer.errors import RobustTransferError

    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED:  # typer's own word for Ctrl-C
            raise KeyboardInterrupt
    except RobustTransferError as error:
        status = _fail(str(error), error.exit_status)
    except USAGE as error:
        error.show()
        status = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _fail("interrupted; the same command goes on, with --resume where it has that option", INTERRUPTED)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        status = _fail("the disk is full: free some space, then go on with --resume", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> int:
    print(f"robust-transfer: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
