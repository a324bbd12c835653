"""``push``: a model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from robust_transfer.cli import completion
from robust_transfer.cli.base import app
from robust_transfer.cli.options import Quiet, as_path, leave_to_one_process, loading, say


@app.command()
def push(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A run folder, or anything in `list sources`.", autocompletion=completion.MODELS
        ),
    ],
    repo: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/NAME", help="The repository; made if need be.", autocompletion=completion.anything
        ),
    ],
    evaluations: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            help="A folder that `evaluate --out` wrote; repeatable. [default: MODEL, if it holds one]",
            parser=as_path,
            metavar="DIR",
            autocompletion=completion.files,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="What that was on: a name on the Hub, or any. [default: the card's]",
            autocompletion=completion.anything,
        ),
    ] = None,
    task_id: Annotated[
        str | None,
        typer.Option(
            "--task-id",
            help="The task of a benchmark on the Hub, for .eval_results.",
            autocompletion=completion.anything,
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            "--base-model",
            help="The repository it comes from. [default: the card's]",
            autocompletion=completion.anything,
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="Licence of the weights, such as mit.", autocompletion=completion.LICENCES),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A repository that only you see.")] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            "--dry-run",
            help="Write what would be pushed here; send nothing.",
            parser=as_path,
            metavar="DIR",
            autocompletion=completion.files,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Put a model on the Hugging Face Hub, with a model card; hf:OWNER/NAME loads it again."""
    leave_to_one_process("push")
    loading("push", quiet)
    from robust_transfer.evaluation import load_evaluation
    from robust_transfer.evaluation.outcomes import EVALUATION
    from robust_transfer.progress import hushed
    from robust_transfer.publishing import push_to_hub
    from robust_transfer.sources import load_source

    folders = evaluations or [path for path in [as_path(model)] if (path / EVALUATION).is_file()]
    with hushed(quiet):
        found = load_source(model)
    done = push_to_hub(
        found,
        repo,
        evaluations=[load_evaluation(folder) for folder in folders],
        dataset=dataset,
        task_id=task_id,
        base_model=base_model,
        licence=licence,
        private=private,
        dry_run=dry_run,
    )
    say(quiet, f"wrote {done}; nothing was sent" if dry_run is not None else f"pushed hf:{repo}: {done}")
