"""A source that the command line made, and a folder of images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import DIGITS
from filelock import FileLock
from PIL import Image

from robust_transfer import cli


@pytest.fixture(scope="session")
def source(common: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source for 8x8 digits, made by the command line itself: a copy of one that all workers share."""
    made = common / "source"
    with FileLock(common / "source.lock"):
        if not made.exists():
            pretrained(made)
    out = tmp_path_factory.mktemp("source") / "source"
    shutil.copytree(made, out)
    return out


def pretrained(out: Path) -> None:
    words = ["--network", "wrn-16-1", "--threat", "linf:16/255", "--epochs", "2", "--out", str(out), "--quiet"]
    more = ["--set", "flip=false", "--set", "pad=0", "--set", "learning_rate=0.1", "--batch-size", "64"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["robust-transfer", "pretrain", *DIGITS, *words, *more])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    assert not exit_.value.code


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes of real pixels, 12 images a class, train and test."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 4)):
        for label, mean in (("dark", 60), ("light", 190)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(n):
                pixels = np.clip(generator.normal(mean, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root
