"""A network of ours as a file that somebody else has published: MadryLab's, of their package robustness.

The tests' writer of that format writes it. Only names change, and the normaliser becomes a part of the file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from torch import Tensor

import robust_transfer as rt

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from published_files import madry

UNIT = re.compile(r"units\.(\d+)\.(shortcut)?")
# Ours, and torchvision's or Rice's.
PREACT = (("last.0.", "bn."), ("body.", ""), ("head.", "linear."))
RESNET = (("body.", ""), ("head.", "fc."))


def names(source: rt.Checkpoint) -> dict[str, Tensor]:
    """State of a source's network under the names of public files."""
    network, state = source.card.network.name, source.classifier.state_dict()
    if network.startswith("resnet"):
        return {_replaced(name, RESNET): value for name, value in state.items()}
    if network in ("preact_resnet18", "preact_resnet18_w32"):
        return {UNIT.sub(_block, _replaced(name, PREACT)): value for name, value in state.items()}
    sys.exit(
        f"{network} is in nobody's file: give a source with a pre-activation ResNet for 32 pixels, or timm's resnet18"
    )


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        name = name.replace(ours, theirs)
    return name


def _block(found: re.Match[str]) -> str:
    """Stage and block of a unit: there are two a stage."""
    unit = int(found[1])
    return f"layer{unit // 2 + 1}.{unit % 2}." + ("shortcut.0" if found[2] else "")


def as_madry(source: rt.Checkpoint, path: Path) -> Path:
    """``path``, where the source now lies as MadryLab's robustness writes a network that it has trained."""
    how, state = source.preprocessing.normalisation, names(source)
    madry(path, state, state, by=(torch.tensor(how.mean), torch.tensor(how.std)), figures={"epoch": 1})
    return path
