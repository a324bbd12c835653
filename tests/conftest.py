"""Shared by all tests: one thread, and scikit-learn's digits as a task small enough to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.data import Split, Task

torch.set_num_threads(1)


def make_digits(train: int = 320, val: int = 80, test: int = 80, size: int = 8) -> Task:
    """The first digits (they come shuffled) as uint8 RGB images."""
    digits = load_digits()
    grey = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    names = tuple(str(name) for name in digits.target_names)
    split = Split.in_memory(images, torch.from_numpy(digits.target), names)
    cuts = torch.arange(train + val + test).split([train, val, test])
    return Task("digits", *(split.subset(cut) for cut in cuts)).at_size(size)


def make_classifier(seed: int = 0, name: str = "wrn_16_1", size: int = 8, **settings: Any) -> Classifier:
    """A tiny network with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    return Classifier.build(NetworkSpec(name=name, num_classes=10, input_size=size, settings=settings))


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold the same state, bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def log_of(folder: Path, without: tuple[str, ...] = ("seconds",)) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


@pytest.fixture(scope="session")
def digits_task() -> Task:
    """320 training, 80 val and 80 test digits, 8x8 pixels."""
    return make_digits()
