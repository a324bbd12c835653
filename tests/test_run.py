"""Run: what it refuses, devices, precision, threads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from robust_transfer import hardware
from robust_transfer.attacks import victim
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import evaluate
from robust_transfer.pretraining import Natural
from robust_transfer.run import Run
from robust_transfer.strategies import LinearProbe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be between 0"),
        ({"seed": 2**31}, "seed must be between 0"),
        ({"threads": 0}, "threads must be between 1 and 1024"),
        ({"threads": 10**30}, "threads must be between 1 and 1024"),
        ({"resume": True, "overwrite": True}, "give one of them"),
        ({"device": "gpu"}, "unknown device 'gpu': use auto, cpu, cuda, cuda:N or mps"),
        ({"device": "meta"}, "unknown device 'meta'"),
        ({"precision": "float16"}, "precision='float16'"),
        ({"sed": 1}, "did you mean 'seed'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Run(**settings)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert Run().torch_device() == torch.device("cpu")
    with pytest.raises(ConfigError, match="'cuda' was asked for, but PyTorch sees no CUDA device"):
        Run(device="cuda")
    with pytest.raises(ConfigError, match="'mps' was asked for"):
        Run(device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Run(device="cuda:0").torch_device() == torch.device("cuda:0")
    assert Run().torch_device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Run().torch_device() == torch.device("cuda:0"), "alone in the environment it means nothing"
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert Run().torch_device() == torch.device("cuda:1")
    with pytest.raises(ConfigError, match="'cuda:1' was asked for, but PyTorch sees only 1 CUDA device:"):
        Run(device="cuda:1")


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 2)
    for has_amx, has_products, faster in [(1, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 1)]:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_amx: bool(has))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has_products: bool(has))
        monkeypatch.setattr(hardware, "_faster_products", lambda faster=faster: bool(faster))
        auto = Run(device="cpu")
        assert auto.dtype() is (torch.bfloat16 if has_amx or (has_products and faster) else torch.float32)
        with auto.autocast():
            assert (x @ x).dtype is auto.dtype()
    with Run(device="cpu", precision="bfloat16").autocast():
        assert (x @ x).dtype is torch.bfloat16


def test_the_home_folder_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = Run(out=Path("~/x"), cache=Path("~/c"))
    assert (run.out, run.cache) == (tmp_path / "x", tmp_path / "c")
    assert Run(out=Path("a~/~b")).out == Path("a~/~b")


def test_threads_are_set_at_work_and_nowhere_else() -> None:
    torch.set_num_threads(1)
    run = dataclasses.replace(Run(threads=3), quiet=True)
    assert torch.get_num_threads() == 1
    with run.at_work():
        assert torch.get_num_threads() == 3
        with Run().at_work():
            assert torch.get_num_threads() == 3, "who gives no number takes what there is"
        with Run(threads=2).at_work():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 1
    with pytest.raises(KeyError), run.at_work():
        raise KeyError
    assert torch.get_num_threads() == 1


def blas() -> set[int]:
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


def test_the_threads_are_blas_too() -> None:
    """SciPy solves a probe: with another number of threads its weights have other last bits."""
    with threadpool_limits(2, "blas"):
        before = blas()
        with Run(threads=1).at_work():
            assert blas() == {1}
        assert blas() == before


def test_verbs_compute_with_the_runs_threads(monkeypatch: pytest.MonkeyPatch, source: Checkpoint, task: Task) -> None:
    """Seen where an attack's batches are cut, which depends on it, and where a card is written."""
    torch.set_num_threads(1)
    run = Run(threads=2, quiet=True, device="cpu")
    asked: list[int] = []

    def usual_chunk(device: torch.device, size: int | None) -> int:
        asked.append(torch.get_num_threads())
        return 16

    monkeypatch.setattr(victim, "usual_chunk", usual_chunk)
    card = LinearProbe(l2=0.1)(source, task, run=run).card
    assert card.environment["hardware"]["threads"] == 2
    card = Natural(epochs=0.1)(task, network="wrn_16_1", run=run).card
    assert card.environment["hardware"]["threads"] == 2
    found = evaluate(source, task.train.subset(torch.arange(8)), attack="fgsm", run=run, red_flag_examples=0)
    assert found.hardware["threads"] == 2
    assert asked
    assert set(asked) == {2}
    assert torch.get_num_threads() == 1
