"""Run folders made by hand, whose numbers are known, and a reader of pages that uses Python's own HTML parser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.statistics.intervals import wilson

EPS = 8 / 255
NASTY = ("<b>bold</b>", "</script><script>alert(1)</script>", '" onload="alert(2)', "a & b <!--", "{{ 7 * 7 }}")
VOID = {"meta", "img", "br", "hr", "input", "link"}


def outcomes(
    n: int = 60, classes: int = 5, *, seed: int = 0, standing: float = 0.5, smallest: bool = True
) -> pd.DataFrame:
    """Random fates: a fifth wrong as it is, ``standing`` of the rest stands, the others flip at eps 1/255 to 8/255."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    wrong, stands = rng.random(n) < 0.2, rng.random(n) < standing
    other = (labels + 1 + rng.integers(0, max(1, classes - 1), n)) % classes
    fate = np.where(wrong, CLEAN, np.where(stands, SURVIVED, "pgd-20"))
    table = pd.DataFrame(
        {
            "index": np.arange(n) + 1000,
            "label": labels,
            "clean_prediction": np.where(wrong, other, labels),
            "adversarial_prediction": np.where(fate == SURVIVED, labels, other),
            "broken_by": fate,
            "margin": rng.normal(size=n).astype(np.float32),
        }
    )
    if smallest:
        flips = rng.integers(1, 9, n) / 255
        table["smallest_eps"] = np.where(wrong, 0.0, np.where(stands, np.inf, flips))
    return table


def evaluation(table: pd.DataFrame, names: Sequence[str], **changes: Any) -> Evaluation:
    """Evaluation with these outcomes."""
    n, standing = len(table), int((table["broken_by"] == SURVIVED).sum())
    known: dict[str, Any] = {
        "schema": 1,
        "clean_accuracy": wilson(int((table["broken_by"] != CLEAN).sum()), n),
        "robust_accuracy": wilson(standing, n),
        "constant_accuracy": int(table["label"].value_counts().iloc[0]) / n,
        "by_attack": {"pgd-20": standing / n},
        "by_class": None,
        "curve": None,
        "transferred": None,
        "untested": [],
        "threat": "linf:8/255",
        "attack": "pgd-20",
        "split": "test",
        "input_size": 8,
        "precision": "float32",
        "seed": 0,
        "flags": [],
        "seconds": 1.5,
        "passes": 1000,
        "data_hash": "d" * 16,
        "model_hash": "m" * 16,
        "source_hash": None,
        "versions": {"torch": "2.99"},
        "hardware": {"cpu": "a CPU", "gpu": None},
        "command": "robust-transfer evaluate model --data builtin:digits",
        "class_names": list(names),
    }
    return Evaluation(**{**known, "outcomes": table, **changes})


def network(classes: Sequence[str] = tuple("0123456789"), *, seed: int = 0, **card: Any) -> Checkpoint:
    """Untrained network of 8 x 8 pixels with these classes; ``seed`` is that of its weights and on its card."""
    torch.manual_seed(seed)
    spec = NetworkSpec(name="wrn_16_1", num_classes=len(classes), preprocessing=Preprocessing(size=8))
    known: dict[str, Any] = {"network": spec, "class_names": tuple(classes), "method": "made", "seed": seed}
    return Checkpoint(Classifier.build(spec).eval(), Card(**{**known, **card}))


class Page(HTMLParser):
    """Tags with their attributes, the text outside of styles and scripts, and what stands in each table."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.scripts: list[str] = []
        self.source = text
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.text += data
            if "td" in self.open or "th" in self.open:
                self.tables[-1][-1][-1] += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of every tag of this name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    def table(self, *head: str) -> list[list[str]]:
        """Rows of the first table whose head begins with these words."""
        return next(t[1:] for t in self.tables if [cell.strip() for cell in t[0]][: len(head)] == list(head))

    def words(self) -> str:
        """Text in single spaces."""
        return " ".join(self.text.split())


CLEAN_OF = {
    ("robust", 1.0): (0.5, 0.52),
    ("robust", 0.1): (0.6, 0.66),
    ("natural", 1.0): (0.7, 0.7),
    ("natural", 0.1): (0.8, 0.84),
}
ROBUST_OF = {
    ("robust", 1.0): (0.4, 0.38),
    ("robust", 0.1): (0.3, 0.32),
    ("natural", 1.0): (0.0, 0.0),
    ("natural", 0.1): (0.0, 0.02),
}


def study(folder: Path, *, title: str = "What is handed down", n: int = 50, repeats: int = 1, lost: int = 0) -> Path:
    """Folder of a study that was never run: two sources, two values of l2, two seeds, and the shares above.

    ``repeats``: so many times as many cells, of other shots. The last ``lost`` cells have diverged.
    """
    rows = []
    for shots, (source, l2), seed in product(range(1, repeats + 1), CLEAN_OF, (0, 1)):
        key = f"{source}-{l2:g}-{shots}-{seed}"
        row = {"source": source, "task": "own", "strategy": "probe", "shots": shots, "seed": seed, "evaluation": "near"}
        row |= {
            "set.l2": l2,
            "result": key,
            "evaluated": key,
            "failure": None,
            "n": n,
            "constant": 0.2,
            "cost": 100 / l2,
        }
        row |= {"threat": "linf:8/255", "attack": "pgd-20", "train_images": 500, "training_seconds": 1.0}
        row |= {"flags": "constant classifier is more robust" if source == "natural" else ""}
        for level, shares in (("clean", CLEAN_OF), ("robust", ROBUST_OF)):
            share = wilson(round(n * shares[source, l2][seed]), n)
            row |= {level: share.value, f"{level}_low": share.low, f"{level}_high": share.high}
        rows.append(row)
    for row in rows[len(rows) - lost :]:
        row["failure"] = "loss is no number"
    spec = {"x": "set.l2", "by": "source", "log": True, "title": "the L2"}
    recipe = {
        "name": "small", "title": title, "paper": "a paper", "notes": "a note", "scale": "smoke",
        "sources": {"robust": {"use": "bundled"}, "natural": {"use": "natural"}},
        "tasks": {"own": {"data": "builtin:digits"}},
        "strategies": {"probe": {"strategy": "linear-probe", "each": {"l2": [1.0, 0.1]}}},
        "evaluations": {"near": {}}, "plots": [spec],
        "grid": [{"source": ["robust", "natural"], "task": ["own"], "strategy": ["probe"], "evaluation": ["near"]}],
    }  # fmt: skip
    claims = [
        {"says": "robustness is handed down", "measured": "+39.0 points [+30.0, +48.0]", "verdict": "holds"},
        {"says": "it is free", "measured": "not measured yet", "verdict": "open"},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    made = {"recipe": recipe, "command": "robust-transfer study small", "precision": "float32", "commit": "abc"}
    made |= {"versions": {"torch": "2.99"}, "hardware": {"cpu": "a CPU", "gpu": None}}
    (folder / "study.json").write_text(json.dumps(made))
    (folder / "findings.json").write_text(json.dumps({"cells": len(rows) + 1, "claims": claims}))
    start = {"command": "robust-transfer study small --jobs 2", "seconds": 90.0, "cells": len(rows)}
    (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")
    pd.DataFrame(rows).to_parquet(folder / "table.parquet")
    return folder
