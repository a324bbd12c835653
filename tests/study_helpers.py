"""A tiny study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from robust_transfer.run import Run
from robust_transfer.study.table import TIMINGS

NEAR = {"source": "robust", "task": "few", "strategy": "probe", "evaluation": "near"}
TINY: dict[str, Any] = {
    "name": "tiny",
    "title": "A tiny study",
    "paper": "Shafahi et al. 2020, section 4",
    "sources": {
        "robust": {"pretrain": {"task": "digits", "network": "wrn_16_1", "set": {"epochs": 1, "augment": False}}},
        "bundled": {"use": "bundled"},
    },
    "tasks": {"digits": {"data": "builtin:digits"}, "few": {"data": "builtin:digits", "classes": [0, 1, 2]}},
    "strategies": {
        "probe": {"strategy": "linear-probe", "each": {"l2": [1.0, 0.01]}},
        "tuned": {"strategy": "fine-tune", "set": {"epochs": 1}},
    },
    "evaluations": {"near": {"threat": "linf:0.05", "attack": "pgd-2", "examples": 40, "transfer_attack_examples": 2}},
    "grid": [{"source": "robust", "task": "few", "strategy": ["probe", "tuned"], "seed": [0, 1], "evaluation": "near"}],
    "scales": {"smoke": {"grid": [NEAR]}, "laptop": None},
}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


RUN = Run(quiet=True, threads=1, precision="float32", device="cpu")
FAR = {"threat": "linf:0.2", "attack": "pgd-2", "examples": 40}
WANTED = {
    "grid": [
        {**TINY["grid"][0], "shots": [10], "evaluation": ["near", "far"]},
        {**NEAR, "strategy": "tuned", "shots": [10], "evaluation": "transferred"},
    ],
    "evaluations": {
        "near": {**TINY["evaluations"]["near"], "transfer_attack_examples": 0},
        "far": {**FAR, "transfer_attack_examples": 0, "red_flag_examples": 3},
        "transferred": TINY["evaluations"]["near"],
    },
}


def facts(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=list(TIMINGS))
