"""Model card: metadata for the Hub, then a page for readers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from robust_transfer.checkpoint import Card, page
from robust_transfer.evaluation import Evaluation
from robust_transfer.foreign.importing import METHOD
from robust_transfer.provenance import Mixture, Provenance
from robust_transfer.publishing.results import TASK, Benchmark, figures, model_index
from robust_transfer.shown import in_markdown

TAGS = ("robust-transfer", "adversarial-robustness", "image-classification")
_HUB = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)", re.ASCII)


def base_models(card: Card) -> list[str]:
    """Repositories on the Hub behind these weights, from imported ones."""
    own = [str(card.origin.get("address", ""))]
    found = (_HUB.match(address) for address in (*own, *_imported(card.source)))
    return list(dict.fromkeys(match["repo"] for match in found if match is not None))


def trained_on(card: Card) -> str | None:
    """Name of the training data on the Hub; None for imported weights, whose file is named instead."""
    name = card.data.get("name") if card.method != METHOD else None
    return str(name).removeprefix("hf:") if name else None


def _imported(source: Provenance | Mixture | None) -> Iterator[str]:
    """Addresses of imported weights among the ancestors."""
    if isinstance(source, Mixture):
        yield from _imported(source.a)
        yield from _imported(source.b)
    elif source is not None:
        if source.method == METHOD and source.data is not None:
            yield source.data
        yield from _imported(source.source)


def model_card(
    card: Card,
    repo: str | None,
    evaluations: Sequence[Evaluation] = (),
    on: Benchmark | None = None,
    base_model: str | None = None,
    licence: str | None = None,
) -> str:
    """README.md of the repository ``repo``, or of a folder where that is None."""
    from huggingface_hub import ModelCardData

    data_name = trained_on(card)
    bases = [base_model] if base_model is not None else base_models(card)
    data = ModelCardData(
        library_name="robust-transfer",
        license=licence,
        pipeline_tag=TASK,
        tags=list(TAGS),
        base_model=bases[0] if len(bases) == 1 else bases or None,
        datasets=[data_name] if data_name is not None and Benchmark(data_name).on_hub else None,
        model_name=repo.partition("/")[2] if repo is not None else card.network.name,
        eval_results=model_index(evaluations, on) if evaluations and on is not None else None,
    )
    address = f"hf:{repo}" if repo is not None else "path/to/this/folder"
    return f"---\n{data.to_yaml()}\n---\n{page(card, address)}{_measured(evaluations, on)}"


def _measured(evaluations: Sequence[Evaluation], on: Benchmark | None) -> str:
    if not evaluations or on is None:
        return ""
    lines = ["", "## Evaluation", "", "| figure | value, 95 % interval | images |", "|---|---|---|"]
    for found in evaluations:
        images = f"{in_markdown(on.name)}, {in_markdown(found.split)}"
        lines += [f"| {name} | {value} | {value.n} of {images} |" for name, value, _ in figures(found)]
        lines += [f"| always the most frequent class | {100 * found.constant_accuracy:.1f} % | the same |"]
    lines += [
        "",
        "A robust accuracy says what these attacks did not break: an upper bound, which other attacks may lower.",
    ]
    lines += [f"- doubt: {in_markdown(flag)}" for found in evaluations for flag in found.flags]
    lines += [f"- untested: {in_markdown(what)}" for found in evaluations for what in found.untested]
    return "\n".join([*lines, ""])
