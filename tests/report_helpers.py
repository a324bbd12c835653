"""Run folders made by hand, whose numbers are known, and a reader of pages that uses Python's own HTML parser."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
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
