"""Networks that verdicts are reported on, and others that suites are chosen on. No network and no image is in both.

Verdicts are on the first images of a stratified sample of each test split; choices on val, which none of them was trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from cases import L2, Case
from plain_networks import build
from torch import nn

import robust_transfer as rt
from robust_transfer.data import Split, to_pixels

THREAT = rt.Threat.parse("linf:8/255")
VERDICT = ("bundled", "preact", "natural", "hundred", "three", "foreign")
CHOICE = ("fast-residual", "trades-residual", "fast-cnn-hundred")
DATA = {"hundred": "cifar100", "fast-cnn-hundred": "cifar100"}  # of the others: cifar10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where networks and images are."""
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders cifar10 and cifar100")
    parser.add_argument("--networks", type=Path, required=True, help="what plain_networks.py and pretrain have written")


def case(name: str, given: argparse.Namespace, n: int) -> Case:
    """Case called ``name`` with its first ``n`` images."""
    data = str(given.data / DATA.get(name, "cifar10"))
    if name in ("bundled", "hundred"):
        task = rt.load_task(data)
        checkpoint = rt.LinearProbe(l2=L2)(rt.load_source("bundled"), task, run=rt.Run(quiet=True))
        return _case(name, checkpoint.classifier, task.test, n)
    if name in ("preact", "natural"):
        return _case(name, rt.load_source(str(given.networks / name)).classifier, rt.load_task(data).test, n)
    model, classes = _plain(given.networks / f"{name}.pt")
    task = rt.load_task(data, val=0.2)
    split = task.val if name in CHOICE else task.test
    return _case(name, model, split.subset((split.labels < classes).nonzero().squeeze(1)), n)


def _plain(path: Path) -> tuple[nn.Module, int]:
    saved = torch.load(path, weights_only=True)
    model = build(saved["layout"], saved["classes"])
    model.load_state_dict(saved["state"])
    return model, saved["classes"]


def _case(name: str, model: nn.Module, split: Split, n: int) -> Case:
    # stratified, and then shuffled: the first of them are as good a sample as all
    split = split.sample(4000, seed=0, purpose="strength")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    split = split.subset(order[:n])
    return Case(name, model.eval(), to_pixels(split.images()), split.labels, THREAT, 50)  # type: ignore[arg-type]
