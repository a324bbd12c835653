"""Odd data, and honest data that are merely few: what is said of each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from record import Count

import robust_transfer as rt
from robust_transfer.data import Split, Task
from robust_transfer.data.survey import describe_data
from robust_transfer.errors import RobustTransferError

Case = Mapping[str, Any]
MARK = "no better than always saying the most frequent class"
SHOTS = (5, 20, 50)
TESTED = 100


def cases(cifar10: Path | None, seed: int) -> Iterator[Case]:
    """Honest settings, the same with their labels shuffled, and folders with something wrong."""
    names = {"digits": "builtin:digits", **({"cifar10": str(cifar10)} if cifar10 is not None else {})}
    for name, data in names.items():
        for source in ("bundled", "natural"):
            for shots in SHOTS if name == "digits" else (10, 50):
                task = rt.load_task(data, shots=shots, seed=seed, prepare=rt.load_source(source).preprocessing)
                task = replace(task, test=task.test.sample(TESTED, seed=seed, purpose="odd"))
                for shuffled in (False, True):
                    given = _shuffled(task, seed) if shuffled else task
                    where = {"data": name, "source": source, "shots": shots, "shuffled": shuffled}
                    yield {"trouble": "labels", **where, **_said(given, source, seed)}
    yield from _folders()


def _said(task: Task, source: str, seed: int) -> Case:
    run = rt.Run(seed=seed, quiet=True, device="cpu", precision="float32", threads=1)
    made = rt.transfer(rt.load_source(source), task, rt.LinearProbe(), run=run)
    found = rt.evaluate(
        made, task.test, attack="fgsm", run=run, red_flag_examples=0, transfer_attack_examples=0, threat="linf:1/255"
    )
    events = [event for event in made.card.events if MARK in event]
    flags = [flag for flag in found.flags if MARK in flag]
    return {"by_transfer": events, "by_evaluate": flags, "accuracy": found.clean_accuracy.value, "val": len(task.val)}


def _shuffled(task: Task, seed: int) -> Task:
    """Labels of each split in a random order: nothing can be learnt that holds on another."""
    generator = torch.Generator().manual_seed(seed)

    def mixed(split: Split) -> Split:
        return replace(split, labels=split.labels[torch.randperm(len(split), generator=generator)])

    return replace(task, train=mixed(task.train), val=mixed(task.val), test=mixed(task.test))


def _folders() -> Iterator[Case]:
    draw = np.random.default_rng(0)

    def noise() -> Any:
        return draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)

    grey, same = np.full((16, 16, 3), 90, np.uint8), noise()
    folders: dict[str, tuple[dict[str, list[Any]], str]] = {
        "one class": ({"a": [noise() for _ in range(12)]}, "all images are of one class"),
        "one picture": ({"a": [same] * 12, "b": [same] * 12}, "are the same picture"),
        "constant images": ({n: [grey + i for i in range(12)] for n in "ab"}, "are of one colour each"),
        "honest, two images": ({"a": [noise()], "b": [noise()]}, ""),
        "honest, one of them blank": ({"a": [noise(), grey], "b": [noise(), noise()]}, ""),
    }
    for name, (classes, wanted) in folders.items():
        with tempfile.TemporaryDirectory() as folder:
            for label, images in classes.items():
                (Path(folder) / "train" / label).mkdir(parents=True)
                for number, image in enumerate(images):
                    Image.fromarray(image).save(Path(folder) / "train" / label / f"{number}.png")
            notes = [note for note in describe_data(folder).notes if note.startswith("train: ")]
            said = any(wanted in note for note in notes) if wanted else not notes
            yield {"trouble": "folder", "what": name, "notes": notes, "right": said, "transfer": _refused(folder)}


def _refused(folder: str) -> str:
    """Sentence with which a transfer refuses the folder; empty if it does not."""
    try:
        rt.transfer(
            rt.load_source("bundled"), rt.load_task(folder, val=0), rt.LinearProbe(l2=0.01), run=rt.Run(quiet=True)
        )
    except RobustTransferError as error:
        return str(error)
    return ""


def counts(found: Sequence[Case]) -> tuple[Count, ...]:
    labels, folders = ([c for c in found if c["trouble"] == kind] for kind in ("labels", "folder"))
    honest, shuffled = ([c for c in labels if c["shuffled"] is here] for here in (False, True))
    return (
        Count("honest settings (5 to 50 images a class)", len(honest)),
        Count("false alarms", sum(bool(c["by_transfer"] or c["by_evaluate"]) for c in honest), must_be=0),
        Count("the same with shuffled labels", len(shuffled)),
        Count("of them, said by evaluate", sum(bool(c["by_evaluate"]) for c in shuffled)),
        Count("of them, said by transfer from val, of 10 to 100 images", sum(bool(c["by_transfer"]) for c in shuffled)),
        Count("folders, odd and honest, described", len(folders)),
        Count("of them, described wrongly", sum(not c["right"] for c in folders), must_be=0),
    )  # fmt: skip
