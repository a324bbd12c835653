"""The public names: what may be imported from the package, each from where it is defined."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import robust_transfer as rt

PUBLIC = [
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


def test_these_are_the_public_names() -> None:
    assert sorted(rt.__all__) == sorted(PUBLIC) == dir(rt)


def test_each_is_there_and_documented() -> None:
    for name in PUBLIC:
        thing = getattr(rt, name)
        assert inspect.getdoc(thing), name
        assert thing.__module__.startswith("robust_transfer.")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(rt.__file__).read_text(encoding="utf-8"))
    [block] = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen: dict[str, str | None] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        seen |= {alias.name: node.module for alias in node.names}
    assert seen == {name: f"robust_transfer.{module}" for name, module in rt._MODULE_OF.items()}
