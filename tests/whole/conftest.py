"""Calling the command line, a source that it made, and a folder of images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import DIGITS, Invoke
from PIL import Image

from robust_transfer import cli


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Call the command line in this process: ``(exit status, standard output, standard error)``."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["robust-transfer", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return call


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source for 8x8 digits, made by the command line itself."""
    out = tmp_path_factory.mktemp("source") / "source"
    words = [
        "pretrain",
        *DIGITS,
        "--network",
        "wrn-16-1",
        "--threat",
        "linf:16/255",
        "--epochs",
        "2",
        "--out",
        str(out),
        "--quiet",
    ]
    more = ["--set", "flip=false", "--set", "pad=0", "--set", "learning_rate=0.1", "--batch-size", "64"]
    saved, sys.argv = sys.argv, ["robust-transfer", *words, *more]
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    finally:
        sys.argv = saved
    assert not exit_.value.code
    return out


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
