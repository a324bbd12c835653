"""Run: what it refuses, devices, precision, threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from robust_transfer import hardware
from robust_transfer.errors import ConfigError
from robust_transfer.run import Run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be between 0"),
        ({"seed": 2**31}, "seed must be between 0"),
        ({"threads": 0}, "threads must be at least 1"),
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


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    Run(threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


# ---------------------------------------------------------------- the output folder


# ---------------------------------------------------------------- writing


# ---------------------------------------------------------------- the record
