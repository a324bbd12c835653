"""robust-transfer: adversarially robust transfer learning (Shafahi et al., ICLR 2020, and those who came after).

import robust_transfer as rt

source = rt.load_source("bundled")
task = rt.load_task("path/to/images", shots=50, seed=0)
result = rt.transfer(source, task, rt.LwF(distance="l2"), run=rt.Run(out="runs/lwf"))
print(rt.evaluate(result, task.test, threat="linf:8/255", attack="pgd-20"))
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# PyTorch's OpenMP threads otherwise spin at barriers, which makes every process slow on a machine that is shared: read
# when PyTorch is loaded, so it is set before, unless the user has said how threads are to wait. docs/performance.md
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

if TYPE_CHECKING:
    from robust_transfer.attacks import APGD, FGSM, PGD, Attack, Square
    from robust_transfer.certification import FeatureShift, Smoothing
    from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
    from robust_transfer.choosing import Choice, Chosen, Rule, choose
    from robust_transfer.classifier import Classifier, NetworkSpec
    from robust_transfer.comparison import Comparison, compare
    from robust_transfer.cost import Cost
    from robust_transfer.data import (
        Augmentation,
        DataDescription,
        Dataset,
        Format,
        Split,
        Task,
        describe_data,
        load_task,
    )
    from robust_transfer.drop_in import AutoAttack
    from robust_transfer.errors import RobustTransferError
    from robust_transfer.estimator import RobustTransferClassifier
    from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation, verify
    from robust_transfer.exporting import Exported, export
    from robust_transfer.networks import register_builder
    from robust_transfer.prediction import Prediction, predict
    from robust_transfer.preprocessing import Normalisation, Preprocessing
    from robust_transfer.pretraining import (
        CARTL,
        FARE,
        PGDAT,
        Fast,
        Free,
        Natural,
        Noise,
        Pretraining,
        Trades,
        pretrain,
    )
    from robust_transfer.production import Produced
    from robust_transfer.publishing import HubModel, push_to_hub
    from robust_transfer.ranking import Ranking, rank
    from robust_transfer.report import write_report
    from robust_transfer.run import Run
    from robust_transfer.sources import SourceKind, list_sources, load_source
    from robust_transfer.strategies import (
        ARD,
        L2SP,
        LPFT,
        NEFT,
        RSLAD,
        Adversarial,
        AutoLoRa,
        BitFit,
        Delta,
        FineTune,
        Frontier,
        Interpolate,
        LastBlocks,
        LinearProbe,
        LoRA,
        LwF,
        Merge,
        Mix,
        MLPHead,
        NormOnly,
        RiFT,
        RoLI,
        Soup,
        Strategy,
        Trained,
        Twins,
        interpolate,
        transfer,
    )
    from robust_transfer.study import Recipe, load_recipe, run_study
    from robust_transfer.threat import Threat

__version__ = "0.1.0"

# Imported on first use: `robust-transfer --help` must not wait for PyTorch. A test holds the three lists together.
_WHERE = {
    "attacks": (
        "APGD",
        "Attack",
        "FGSM",
        "PGD",
        "Square",
    ),
    "certification": (
        "FeatureShift",
        "Smoothing",
    ),
    "checkpoint": (
        "Card",
        "Checkpoint",
        "load_checkpoint",
    ),
    "choosing": (
        "Choice",
        "Chosen",
        "Rule",
        "choose",
    ),
    "classifier": (
        "Classifier",
        "NetworkSpec",
    ),
    "comparison": (
        "Comparison",
        "compare",
    ),
    "cost": ("Cost",),
    "data": (
        "Augmentation",
        "DataDescription",
        "Dataset",
        "Format",
        "Split",
        "Task",
        "describe_data",
        "load_task",
    ),
    "drop_in": ("AutoAttack",),
    "errors": ("RobustTransferError",),
    "estimator": ("RobustTransferClassifier",),
    "evaluation": (
        "Evaluation",
        "evaluate",
        "load_evaluation",
        "verify",
    ),
    "exporting": (
        "Exported",
        "export",
    ),
    "networks": ("register_builder",),
    "prediction": (
        "Prediction",
        "predict",
    ),
    "preprocessing": (
        "Normalisation",
        "Preprocessing",
    ),
    "pretraining": (
        "CARTL",
        "FARE",
        "Fast",
        "Free",
        "Natural",
        "Noise",
        "PGDAT",
        "Pretraining",
        "Trades",
        "pretrain",
    ),
    "production": ("Produced",),
    "publishing": (
        "HubModel",
        "push_to_hub",
    ),
    "ranking": (
        "Ranking",
        "rank",
    ),
    "report": ("write_report",),
    "run": ("Run",),
    "sources": (
        "SourceKind",
        "list_sources",
        "load_source",
    ),
    "strategies": (
        "ARD",
        "Adversarial",
        "AutoLoRa",
        "BitFit",
        "Delta",
        "FineTune",
        "Frontier",
        "Interpolate",
        "L2SP",
        "LPFT",
        "LastBlocks",
        "LinearProbe",
        "LwF",
        "MLPHead",
        "Merge",
        "Mix",
        "LoRA",
        "NEFT",
        "NormOnly",
        "RSLAD",
        "RiFT",
        "RoLI",
        "Soup",
        "Strategy",
        "Trained",
        "Twins",
        "interpolate",
        "transfer",
    ),
    "study": (
        "Recipe",
        "load_recipe",
        "run_study",
    ),
    "threat": ("Threat",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "APGD",
    "ARD",
    "Adversarial",
    "Attack",
    "Augmentation",
    "AutoAttack",
    "AutoLoRa",
    "BitFit",
    "CARTL",
    "Card",
    "Checkpoint",
    "Choice",
    "Chosen",
    "Classifier",
    "Comparison",
    "Cost",
    "DataDescription",
    "Dataset",
    "Delta",
    "Evaluation",
    "Exported",
    "FARE",
    "FGSM",
    "Fast",
    "FeatureShift",
    "FineTune",
    "Format",
    "Free",
    "Frontier",
    "HubModel",
    "Interpolate",
    "L2SP",
    "LPFT",
    "LastBlocks",
    "LinearProbe",
    "LwF",
    "MLPHead",
    "Merge",
    "Mix",
    "LoRA",
    "NEFT",
    "Natural",
    "NetworkSpec",
    "Noise",
    "NormOnly",
    "Normalisation",
    "PGD",
    "PGDAT",
    "Prediction",
    "Preprocessing",
    "Pretraining",
    "Produced",
    "Ranking",
    "RSLAD",
    "Recipe",
    "RiFT",
    "RoLI",
    "RobustTransferClassifier",
    "RobustTransferError",
    "Rule",
    "Run",
    "Smoothing",
    "Soup",
    "SourceKind",
    "Split",
    "Square",
    "Strategy",
    "Task",
    "Threat",
    "Trades",
    "Trained",
    "Twins",
    "choose",
    "compare",
    "describe_data",
    "evaluate",
    "export",
    "interpolate",
    "list_sources",
    "load_checkpoint",
    "load_evaluation",
    "load_recipe",
    "load_source",
    "load_task",
    "predict",
    "pretrain",
    "push_to_hub",
    "rank",
    "register_builder",
    "run_study",
    "transfer",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
