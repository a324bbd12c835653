"""Run: how something is computed (seed, device, precision, threads) and where it is written."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from robust_transfer.config import config
from robust_transfer.errors import ConfigError, OutputError

Precision = Literal["auto", "float32", "bfloat16"]


@config
class Run:
    """Seed, device, precision and threads of a computation, and its output folder.

    ``device``: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    ``precision``: ``auto`` takes bfloat16 where the hardware has matrix units for it (CUDA of compute capability 8 and
    above, CPUs with AMX) and float32 elsewhere; verdicts are float32 in any case.
    ``out``: the folder that results are written to, or None to keep them in memory.
    """

    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    out: Path | None = None
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be between 0 and 2^31 - 1, not {self.seed}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, not {self.threads}")
        if self.resume and self.overwrite:
            raise ConfigError("--resume goes on with a folder and --overwrite empties it: give one of them")
        self.torch_device()  # a wrong name is told now, not after the data has been loaded
        if self.threads is not None:
            torch.set_num_threads(self.threads)

    def torch_device(self) -> torch.device:
        """The device as PyTorch knows it."""
        if self.device == "auto":
            local_rank = int(os.environ.get("LOCAL_RANK", "0"))
            return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ConfigError(f"unknown device {self.device!r}: use auto, cpu, cuda, cuda:N or mps") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device {self.device!r} was asked for, but PyTorch sees no CUDA device: use --device cpu")
        return device

    def dtype(self) -> torch.dtype:
        """The type that networks compute in: torch.float32 or torch.bfloat16."""
        if self.precision == "auto":
            return torch.bfloat16 if gains_by_bfloat16(self.torch_device()) else torch.float32
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Mixed precision on this run's device; does nothing in float32."""
        with torch.autocast(self.torch_device().type, torch.bfloat16, enabled=self.dtype() is torch.bfloat16):
            yield

    def prepare_out(self) -> Path | None:
        """Check (and with ``overwrite`` empty) the output folder; nothing is created yet."""
        if self.out is None:
            return None
        out = Path(self.out)
        if out.exists() and not out.is_dir():
            raise OutputError(f"the output path {out} is a file: give a folder")
        if out.is_dir() and any(out.iterdir()) and not self.resume:
            if not self.overwrite:
                raise OutputError(f"the output folder {out} is not empty: give another, or --overwrite, or --resume")
            if not _is_run_folder(out):
                raise OutputError(f"{out} does not look like a run folder, so --overwrite does not empty it: give another")
            shutil.rmtree(out)
        return out


def _is_run_folder(folder: Path) -> bool:
    known = {"card.json", "metrics.jsonl", "evaluation.json", "config.yaml", "state", "table.json", "index.html"}
    return any((folder / name).exists() for name in known)


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has matrix units for bfloat16. AVX-512 alone emulates it and is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported())
    return False


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` and move the result to ``path``: a reader sees the old file or the new one, whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(_os_message(path, error)) from None
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(_os_message(path, error)) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _os_message(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk is full, so {path} was not written (what was there before is untouched): free some space"
    return f"cannot write {path}: {error.strerror or error}; choose another --out"


def environment() -> dict[str, Any]:
    """What a number depends on but for its command: versions, machine, commit. No host names, no paths."""
    names = ("robust-transfer", "torch", "torchvision", "timm", "datasets", "accelerate", "scikit-learn", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    hardware = {"machine": platform.machine(), "cpu": _cpu_name(), "threads": torch.get_num_threads(), "gpu": gpu}
    return {"versions": versions, "hardware": hardware, "commit": _commit()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _commit() -> str | None:
    """The commit of the package's own checkout, or None where it is installed from a wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """The command that is running, with the program's name for its path."""
    if not sys.argv or not sys.argv[0]:
        return "python"
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
