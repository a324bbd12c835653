"""robust-transfer: adversarially robust transfer learning (Shafahi et al., ICLR 2020, and those who came after).

import robust_transfer as rt

source = rt.load_source("bundled")
task = rt.load_task("path/to/images", shots=50, seed=0)
result = rt.transfer(source, task, rt.LwF(distance="l2"), run=rt.Run(out="runs/lwf"))
print(rt.evaluate(result, task.test, threat="linf:8/255", attack="pgd-20"))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_transfer.attacks import APGD, FGSM, PGD, Square
    from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
    from robust_transfer.classifier import Classifier, NetworkSpec, Normalisation
    from robust_transfer.comparison import Comparison, compare
    from robust_transfer.data import Augmentation, Split, Task, load_task
    from robust_transfer.errors import RobustTransferError
    from robust_transfer.evaluation import Evaluation, evaluate, verify
    from robust_transfer.pretraining import PGDAT, Fast, Free, Natural, Trades
    from robust_transfer.run import Run
    from robust_transfer.sources import load_source
    from robust_transfer.strategies import (
        Adversarial,
        FineTune,
        Frontier,
        LastBlocks,
        LinearProbe,
        LwF,
        MLPHead,
        interpolate,
        transfer,
    )
    from robust_transfer.threat import Threat

__version__ = "0.1.0"

# Imported on first use: `robust-transfer --help` must not wait for PyTorch.
_WHERE = {
    "attacks": ("APGD", "FGSM", "PGD", "Square"),
    "checkpoint": ("Card", "Checkpoint", "load_checkpoint"),
    "classifier": ("Classifier", "NetworkSpec", "Normalisation"),
    "comparison": ("Comparison", "compare"),
    "data": ("Augmentation", "Split", "Task", "load_task"),
    "errors": ("RobustTransferError",),
    "evaluation": ("Evaluation", "evaluate", "verify"),
    "pretraining": ("PGDAT", "Fast", "Free", "Natural", "Trades"),
    "run": ("Run",),
    "sources": ("load_source",),
    "threat": ("Threat",),
    "strategies": (
        "Adversarial",
        "FineTune",
        "Frontier",
        "LastBlocks",
        "LinearProbe",
        "LwF",
        "MLPHead",
        "interpolate",
        "transfer",
    ),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "APGD",
    "FGSM",
    "PGD",
    "PGDAT",
    "Adversarial",
    "Augmentation",
    "Card",
    "Checkpoint",
    "Classifier",
    "Comparison",
    "Evaluation",
    "Fast",
    "Free",
    "FineTune",
    "Frontier",
    "LastBlocks",
    "LinearProbe",
    "LwF",
    "MLPHead",
    "Natural",
    "NetworkSpec",
    "Normalisation",
    "RobustTransferError",
    "Run",
    "Split",
    "Square",
    "Task",
    "Threat",
    "Trades",
    "compare",
    "evaluate",
    "interpolate",
    "load_checkpoint",
    "load_source",
    "load_task",
    "transfer",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
