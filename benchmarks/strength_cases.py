"""Networks that verdicts are reported on, and others that suites are chosen on. No network and no image is in both.

Verdicts are on the first images of a stratified sample of each test split; choices on val, which none of them was trained on.
`bundled` and `hundred` are the bundled source with a linear probe (l2 0.1) of CIFAR-10 and of CIFAR-100; their heads are
kept, because another machine, thread count or solver gives other last bits, and verdicts belong to one network. The others are
plain_networks.py's, 8 epochs for `three`, 4 for `natural`, 3 for `fast-cnn-hundred`, 5 for the rest:

    foreign           --data cifar10 --layout cnn --method fast
    three             --data cifar10 --layout residual --method pgd --classes 3
    natural           --data cifar10 --layout residual --method natural
    fast-residual     --data cifar10 --layout residual --method fast
    trades-residual   --data cifar10 --layout residual --method trades
    fast-cnn-hundred  --data cifar100 --layout cnn --method fast

`preact` is a run folder of `pretrain --network preact_resnet18 --method fast --epochs 1` (43 MB: not kept), `tiny` one of
`transfer --source bundled-64 --data tiny-imagenet --strategy linear-probe --set l2=0.1 --val 0.2`, 200 classes. The networks of
the verdicts lie in networks/.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from cases import Case
from plain_networks import load
from safetensors.torch import load_file
from torch import nn

import robust_transfer as rt
from robust_transfer.data import Split, to_pixels

KEPT = Path(__file__).parent / "networks"
THREAT = rt.Threat.parse("linf:8/255")
VERDICT = ("bundled", "preact", "natural", "hundred", "three", "foreign")
CHOICE = ("fast-residual", "trades-residual", "fast-cnn-hundred", "tiny")
DATA = {"hundred": "cifar100", "fast-cnn-hundred": "cifar100", "tiny": "tiny-imagenet"}  # of the others: cifar10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options with the locations of networks and images."""
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the folders cifar10, cifar100 and tiny-imagenet"
    )
    parser.add_argument("--networks", type=Path, default=KEPT, help="what plain_networks.py and pretrain have written")


def case(name: str, given: argparse.Namespace, n: int) -> Case:
    """Case called ``name`` with its first ``n`` images."""
    data = str(given.data / DATA.get(name, "cifar10"))
    if name in ("bundled", "hundred"):
        task = rt.load_task(data)
        classifier = rt.load_source("bundled").classifier.with_head(len(task.class_names))
        classifier.head.load_state_dict(load_file(KEPT / f"{name}-head.safetensors"))
        return _case(name, classifier, task.test, n)
    task = rt.load_task(data, val=0.2)
    split = task.val if name in CHOICE else task.test
    if name in ("preact", "tiny"):
        return _case(name, rt.load_source(str(given.networks / name)).classifier, split, n)
    model, classes = load(given.networks / f"{name}.safetensors")
    return _case(name, model, split.subset((split.labels < classes).nonzero().squeeze(1)), n)


def _case(name: str, model: nn.Module, split: Split, n: int) -> Case:
    # stratified, and then shuffled: the first of them are as good a sample as all
    split = split.sample(4000, seed=0, purpose="strength")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    split = split.subset(order[:n])
    return Case(name, model.eval(), to_pixels(split.images()), split.labels, THREAT, 50)  # type: ignore[arg-type]
