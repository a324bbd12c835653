"""Shared fixtures: one thread, the command line, digits as a task, and a source to transfer from."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import typer.main
from attack_helpers import Batch, trained
from cli_helpers import Invoke
from helpers import make_digits, make_source, make_task
from sklearn.datasets import load_digits
from torch import nn

from robust_transfer import cli
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.compiling import VARIABLE
from robust_transfer.data import Task, loading
from robust_transfer.data.decoded import Decoded
from robust_transfer.data.encoded import ArrayImages, Images
from robust_transfer.messages import on_standard_error
from robust_transfer.preprocessing import Geometry


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers every time, and alone what it draws among others."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a test session share: what costs seconds is made once, under a lock."""
    root = tmp_path_factory.getbasetemp()
    return root.parent if "PYTEST_XDIST_WORKER" in os.environ else root


@pytest.fixture
def told() -> Iterator[None]:
    """What is told is shown, as it is at the command line."""
    with on_standard_error():
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Whatever a test, or what it calls, sets."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def float32() -> Iterator[None]:
    """What ``auto`` takes is the same on every CPU: tests compare exact numbers. Those of bfloat16 ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_tried_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What trials have found on this machine, or find in a test, has no part in another session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(autouse=True, scope="session")
def built_once() -> Iterator[None]:
    """Typer builds all commands anew for each call, which takes longer than most calls that are refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", functools.cache(typer.main.get_command))
        yield


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


@pytest.fixture(autouse=True, scope="session")
def digits_decoded_once() -> Iterator[None]:
    """The built-in digits are read in hundreds of tests: a process decodes and fingerprints them once."""
    kept = dict[tuple[bytes, ...], Decoded]()

    def decoded(
        images: Images, labels: torch.Tensor, class_names: tuple[str, ...], ahead: Geometry | None = None
    ) -> Decoded:
        made = Decoded(images, labels, class_names, ahead)
        if not isinstance(images, ArrayImages):
            return made
        content = images.arrays.tobytes(), labels.numpy().tobytes(), repr((class_names, ahead)).encode()
        return kept.setdefault(content, made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "Decoded", decoded)
        yield


@pytest.fixture(scope="session")
def digits_task() -> Task:
    """320 training, 80 val and 80 test digits, 8x8 pixels."""
    return make_digits()


@pytest.fixture(scope="module")
def task() -> Task:
    """Digits with a test split that must not be read."""
    return make_task()


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    """A source that says it was trained at linf 8/255."""
    return make_source(threat="linf:8/255")


@pytest.fixture(scope="session")
def digits() -> Batch:
    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()[:, None].repeat(1, 3, 1, 1)
    return images, torch.from_numpy(data.target).long(), torch.arange(len(images))


@pytest.fixture(scope="session")
def network(digits: Batch) -> nn.Module:
    """A small network after a few epochs of adversarial training: many examples lie close to its boundaries."""
    return trained(digits, seed=0, epochs=6, eps=0.15)


@pytest.fixture(scope="session")
def batch(digits: Batch) -> Batch:
    """256 test images that the network has not seen."""
    images, labels, ids = digits
    return images[1200:1456], labels[1200:1456], ids[1200:1456]
