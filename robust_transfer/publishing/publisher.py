"""Folder of a repository, written and uploaded: weights as safetensors, card, model card, results. It has no pickle."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.config import expect
from robust_transfer.errors import ConfigError, OutputError
from robust_transfer.evaluation import Evaluation
from robust_transfer.files import expanded, write_text
from robust_transfer.publishing.page import model_card, trained_on
from robust_transfer.publishing.results import FOLDER, Benchmark, eval_results
from robust_transfer.publishing.uploading import upload


def push_to_hub(
    model: Checkpoint,
    repo: str,
    *,
    evaluations: Sequence[Evaluation] = (),
    dataset: str | None = None,
    task_id: str | None = None,
    base_model: str | None = None,
    licence: str | None = None,
    private: bool = False,
    dry_run: Path | str | None = None,
) -> str:
    """Push ``model`` to the repository ``repo`` (``OWNER/NAME``), which is made if need be; returns the commit's address.

    ``load_source("hf:OWNER/NAME")`` loads it again, to the same weights and card. ``evaluations`` of this very model are put
    into the model card; ``dataset`` says what they are on (a name on the Hub, or any other; by default what the model's card
    says it was trained on), ``task_id`` which task of a benchmark on the Hub that is. ``base_model``: where it comes from,
    if the card does not tell. ``dry_run``: write what would be pushed to this folder, which is returned; nothing is sent.
    Raises :class:`ConfigError` for what does not fit, :class:`OutputError` where it cannot be written or pushed.
    """
    page, results = described(
        model,
        repo,
        evaluations=evaluations,
        dataset=dataset,
        task_id=task_id,
        base_model=base_model,
        licence=licence,
    )
    if dry_run is not None:
        folder = expanded(dry_run)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} is not empty: give another folder for the dry run")
        _write(model, folder, page, results)
        return str(folder)
    with tempfile.TemporaryDirectory() as temporary:
        _write(model, Path(temporary), page, results)
        return upload(Path(temporary), repo, private=private)


def described(
    model: Checkpoint,
    repo: str | None,
    *,
    evaluations: Sequence[Evaluation] = (),
    dataset: str | None = None,
    task_id: str | None = None,
    base_model: str | None = None,
    licence: str | None = None,
) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """Model card, and contents of the files in ``.eval_results``, as :func:`push_to_hub` has them.

    A ``repo`` of None is a folder somewhere. Raises :class:`ConfigError` for what does not fit.
    """
    expect("model", model, Checkpoint, hint="such as load_source(folder)")
    if repo is not None and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo, re.ASCII) is None:
        raise ConfigError(f"{repo!r} names no repository: write OWNER/NAME")
    for what, text in {"dataset": dataset, "base_model": base_model, "licence": licence}.items():
        if text is not None and not text.strip():
            raise ConfigError(f"{what} is empty: leave it out")
    for found in evaluations:
        expect("an evaluation", found, Evaluation, hint="such as load_evaluation(folder)")
        if found.model_hash != model.hash:
            raise ConfigError(
                f"the evaluation with {found.headline()} is of other weights ({found.model_hash}, and these are {model.hash})"
            )
    if task_id is not None and (dataset is None or "/" not in dataset):
        raise ConfigError("a task is one of a benchmark on the Hub: give its name, too (--dataset OWNER/NAME)")
    name = dataset or trained_on(model.card)
    on = Benchmark(name, task_id) if name else None
    if evaluations and on is None:
        raise ConfigError(
            "the card does not say what the model was trained on: say what it was evaluated on (--dataset)"
        )
    page = model_card(model.card, repo, evaluations, on, base_model, licence)
    return page, eval_results(evaluations, on) if on is not None else {}


def _write(model: Checkpoint, folder: Path, page: str, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Run folder of the model, in the precision that it is stored in, with the model card for its README."""
    model.save(folder, dtype=model.stored_dtype)
    write_text(folder / "README.md", page)
    for name, entries in results.items():
        write_text(folder / FOLDER / name, yaml.safe_dump(list(entries), sort_keys=False, allow_unicode=True))
