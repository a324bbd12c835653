"""Recipe of section 5: features under attack, layer by layer, and images made from them, sources side by side."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from robust_transfer import losses
from robust_transfer.analysis import feature_distances, maximise, reconstruct
from robust_transfer.attacks.victim import attacking, predicted
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.config import as_dict, digest
from robust_transfer.data import Split, to_pixels
from robust_transfer.drawing import png
from robust_transfer.drawing.figures import WIDTH
from robust_transfer.drawing.plots import look, style, svg, tidy
from robust_transfer.files import write_atomically, write_bytes, write_json, write_text
from robust_transfer.modes import on_device
from robust_transfer.study.recipe import Filters
from robust_transfer.study.work import Workshop
from robust_transfer.threat import Threat

LAYERS, LAYERS_PLOT, PICTURES = "layers.parquet", "layers.svg", "pictures.json"
MIN_SIDE = 96  # of a picture on the page, in pixels, at least


def look_at_filters(workshop: Workshop, how: Filters) -> Path:
    """Make table, plot and pictures, once, and copy them to the study's folder; returns the pictures' path.

    They hold pixels of the data: they are for who ran the study, not for publishing.
    """
    make = partial(_make, workshop, how)
    folder = workshop.store.once("filters", _key(workshop, how), _is_made, make, workshop.team)
    for name in (LAYERS, LAYERS_PLOT, PICTURES) if workshop.team.main else ():
        write_atomically(workshop.store.root / name, partial(shutil.copyfile, folder / name))
    return workshop.store.root / PICTURES


def filters_are_made(workshop: Workshop, how: Filters) -> bool:
    """True if they are there."""
    return _is_made(workshop.store.folder("filters", _key(workshop, how)))


def _key(workshop: Workshop, how: Filters) -> str:
    test = workshop.task(how.task, None, 0).test
    return digest("filters", as_dict(how), [workshop.source_key(name) for name in how.sources], test.hash)


def _is_made(out: Path) -> bool:
    return (out / PICTURES).is_file()


def _make(workshop: Workshop, how: Filters, out: Path) -> None:
    sources = {name: workshop.source(name) for name in how.sources}
    if not workshop.team.main:
        return
    test = workshop.task(how.task, None, 0).test
    table = pd.concat(
        [_distances(workshop, name, source, test, how) for name, source in sources.items()], ignore_index=True
    )
    write_bytes(out / LAYERS, table.to_parquet(index=False))
    write_text(out / LAYERS_PLOT, svg(distances_plot(table)))
    pictures = [_pictures(workshop, name, source, test, how) for name, source in sources.items()]
    write_json(out / PICTURES, {"how": as_dict(how), "sources": pictures})


def _distances(workshop: Workshop, name: str, source: Checkpoint, test: Split, how: Filters) -> pd.DataFrame:
    """One row per layer: the mean distance under attack, and its 10 % and 90 % quantiles over images."""
    device, split = workshop.run.torch_device(), test.prepared(source.preprocessing)
    x, _, ids = split.sample(how.images, seed=0, purpose="filters").on(device)
    with on_device(source.classifier, device):
        attacked = _all_steps(source.classifier, x, ids, Threat.parse(how.threat), how.attack_steps)
        found = [
            feature_distances(source.classifier, *pair)
            for pair in zip(torch.split(x, 250), torch.split(attacked, 250), strict=True)
        ]
    layers = {layer: torch.cat([part[layer] for part in found]) for layer in found[0]}
    return pd.DataFrame(
        {
            "source": name,
            "layer": number,
            "name": layer,
            "distance": float(values.mean()),
            "low": float(values.quantile(0.1)),
            "high": float(values.quantile(0.9)),
            "n": len(values),
            "threat": how.threat,
        }
        for number, (layer, values) in enumerate(layers.items())
    )


def _all_steps(classifier: Classifier, x: Tensor, ids: Tensor, threat: Threat, steps: int) -> Tensor:
    """PGD against the network's own predictions, without stopping at a break: the same number of steps for all networks."""
    with attacking(classifier, x.device, size=x.shape[-1]) as target:
        answers = predicted(target.logits(x))
        current = threat.random_start(x, ids, seed=0, purpose="filters/attack")
        for _ in range(steps):
            _, gradient = target.gradient(current, answers, losses.log_odds)
            current = threat.project(current + threat.eps / 4 * threat.steepest(gradient), x)
    return current


def _pictures(workshop: Workshop, name: str, source: Checkpoint, test: Split, how: Filters) -> dict[str, Any]:
    """Images that maximise some features of one source, and test images rebuilt from their features."""
    device, split = workshop.run.torch_device(), test.prepared(source.preprocessing)
    some = split.sample(how.pictures, seed=0, purpose="filters/pictures")
    x = to_pixels(some.images(), device)
    with on_device(source.classifier, device):
        units = _liveliest(source, x, how.pictures)
        driven = maximise(source.classifier, units, steps=how.steps)
        rebuilt = reconstruct(source.classifier, x, steps=how.steps)
    names = [split.class_names[int(label)] for label in some.labels]
    return {
        "name": name,
        "units": [{"unit": int(unit), "image": _png(image)} for unit, image in zip(units, driven, strict=True)],
        "rebuilt": [
            {"label": label, "image": _png(before), "rebuilt": _png(after)}
            for label, before, after in zip(names, x, rebuilt, strict=True)
        ],
    }


def _liveliest(source: Checkpoint, x: Tensor, count: int) -> Tensor:
    """Features with the largest variance over these images."""
    with torch.no_grad():
        spread = source.classifier.eval().features(x).std(0)
    return spread.topk(min(count, len(spread))).indices


def _png(image: Tensor) -> str:
    return png(image, scale=max(1, MIN_SIDE // image.shape[-1]))


def distances_plot(table: pd.DataFrame) -> Figure:
    """Relative distance after each block, a line a source, with a band for the middle 80 % of images."""
    with style():
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        for index, (name, rows) in enumerate(table.groupby("source", sort=False)):
            axes.plot(rows["layer"], rows["distance"], label=str(name), **look(index))
            axes.fill_between(rows["layer"], rows["low"], rows["high"], color=look(index)["color"], alpha=0.12, lw=0)
        axes.set_yscale("log")
        axes.set_xlabel("block (the last one: logits)")
        axes.set_ylabel(f"|h(x') - h(x)| / |h(x)|, {table['threat'].iloc[0]}")
        axes.legend(frameon=False)
        tidy(axes)
        return figure
