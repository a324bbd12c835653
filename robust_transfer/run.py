"""Run: how something is computed (seed, device, precision, threads) and where it is written."""

from __future__ import annotations

import errno
import functools
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from robust_transfer.config import config
from robust_transfer.errors import ConfigError, OutputError

Precision = Literal["auto", "float32", "bfloat16"]

# What makes a run folder one; --overwrite removes what is WRITTEN and no other file.
RESULTS = {"card.json", "metrics.jsonl", "evaluation.json", "outcomes.parquet", "table.json"}
RESULTS |= {"model.safetensors", "state.safetensors", "path.safetensors"}
WRITTEN = RESULTS | {
    "config.yaml",
    "README.md",
    "deltas.parquet",
    "index.html",
    "frontier.svg",
    "fingerprints.safetensors",
}
PART = re.compile(r"deltas-\d{9}\.parquet")  # of an evaluation that is not finished
# What a kill in the middle of a write leaves behind: our temporary file, or safetensors' own.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}|\.tmp\w{6}")
_UMASK = os.umask(0)
os.umask(_UMASK)


@config
class Run:
    """Seed, device, precision and threads of a computation, and its output folder.

    ``device``: ``auto`` (CUDA if there is one), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    ``precision``: ``auto`` takes bfloat16 where the hardware gains by it (CUDA of compute capability 8 and above, CPUs
    with AMX, CPUs with AVX-512's bfloat16 products where those are measured to be faster) and float32 elsewhere; verdicts
    are float32 in any case.
    ``out``: the folder that results are written to, or None to keep them in memory. ``cache``: a folder where features
    and solved heads are kept for other runs that need the same, or None.
    """

    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    out: Path | None = None
    cache: Path | None = None
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
        unknown = ConfigError(f"unknown device {self.device!r}: use auto, cpu, cuda, cuda:N or mps")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise unknown from None
        if device.type not in ("cpu", "cuda", "mps"):  # PyTorch knows many more, such as meta
            raise unknown
        count = torch.cuda.device_count() if device.type == "cuda" else 1
        if device.type == "cuda" and (device.index or 0) >= count:
            found = f"only {count} CUDA device{'s' * (count != 1)}" if count else "no CUDA device"
            raise ConfigError(
                f"device {self.device!r} was asked for, but PyTorch sees {found}: use --device cpu or another"
            )
        if device.type == "mps" and not torch.backends.mps.is_available():
            raise ConfigError(f"device {self.device!r} was asked for, but PyTorch sees no Apple GPU: use --device cpu")
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

    def check_out(self) -> None:
        """Refuse an output folder that must not be written to; nothing is created or removed."""
        out = self.out
        if out is None or not is_main_process():  # the others would find what the main process has begun to write
            return
        try:
            if out.exists() and not out.is_dir():
                raise OutputError(f"the output path {out} is a file: give a folder")
            there = list(out.iterdir()) if out.is_dir() else []
            empty = all(_is_leftover(path) for path in there) if self.resume else not there
        except OSError as error:
            raise OutputError(_os_message(out, error)) from None
        if empty:
            return
        if not (self.resume or self.overwrite):
            raise OutputError(f"the output folder {out} is not empty: give another, or --overwrite, or --resume")
        foreign = _foreign(out) if self.overwrite else None
        if foreign is not None or not _holds_results(out, deep=self.overwrite):
            why = f" (no run wrote {foreign.relative_to(out)})" if foreign is not None else ""
            option = "--resume does not write to it" if self.resume else "--overwrite does not empty it"
            raise OutputError(f"{out} does not look like a run folder{why}, so {option}: give another")

    def prepare_out(self) -> Path | None:
        """Check the output folder and, with ``overwrite``, empty it; it is created by the first write."""
        self.check_out()
        if self.out is not None and self.overwrite and self.out.is_dir() and is_main_process():
            try:
                for entry in self.out.iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            except OSError as error:
                raise OutputError(_os_message(self.out, error)) from None
        return self.out


def _is_leftover(path: Path) -> bool:
    """Whether it is only what a kill in the middle of a run's first write has left behind."""
    if path.is_dir():
        return path.name == "state" and all(_is_leftover(entry) for entry in path.iterdir())
    return TEMPORARY.fullmatch(path.name) is not None


def _holds_results(folder: Path, deep: bool) -> bool:
    """Whether a folder is a run's, or (``deep``) holds a run's somewhere below."""
    paths = folder.rglob("*") if deep else [*folder.iterdir(), *folder.glob("state/*")]
    return any(path.name in RESULTS for path in paths)


def _foreign(folder: Path) -> Path | None:
    """The first entry of a folder (or of a run folder in it) that no run writes, or None."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            if (found := _foreign(entry)) is not None:
                return found
        elif entry.name not in WRITTEN and not PART.fullmatch(entry.name) and not TEMPORARY.fullmatch(entry.name):
            return entry
    return None


def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` computes faster in bfloat16; AVX-512 alone emulates it, and its bfloat16 products may be slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and _faster_products())
    return False


@functools.cache
def _faster_products() -> bool:
    """Whether matrix products on the CPU are at least 1.5 times as fast in bfloat16, measured once (some 50 ms)."""
    matrices = {dtype: torch.ones(768, 768, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in matrices}
    for _ in range(6):  # in turn: what else the machine does meets both
        for dtype, matrix in matrices.items():
            begun = time.perf_counter()
            matrix @ matrix
            seconds[dtype].append(time.perf_counter() - begun)
    exact, fast = (median(times[1:]) for times in seconds.values())  # the first time prepares
    return exact >= 1.5 * fast


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write(temporary)`` and move the result to ``path``: a reader sees the old file or the new one, whole.

    Raises :class:`OutputError` where that fails; then the old file is untouched and nothing is left beside it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            temporary.chmod(0o666 & ~_UMASK)  # safetensors creates files that only their owner may read
            with temporary.open("r+b") as file:
                os.fsync(file.fileno())  # some file systems say only here that the disk is full
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(_os_message(path, error)) from None


@contextmanager
def all_or_none(*paths: Path) -> Iterator[None]:
    """Files that belong together: where one cannot be written, those that were not there before are removed again."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except OutputError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def expanded(path: str | Path) -> Path:
    """``~`` and ``~user`` as the home folders that they stand for, where there are such."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def append_line(path: Path, text: str) -> None:
    """Append a line to a log; creates the file and its folder. Raises :class:`OutputError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise OutputError(_os_message(path, error)) from None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN is refused: it is not JSON."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: _write(temporary, text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _os_message(path: Path, error: Exception) -> str:
    # safetensors reports "... I/O error: No space left on device (os error 28)" by an exception of its own
    if getattr(error, "errno", None) == errno.ENOSPC or f"(os error {errno.ENOSPC})" in str(error):
        return f"the disk is full, so {path} was not written (what was there before is untouched): free some space"
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}; choose another --out"


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
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def is_main_process() -> bool:
    """Whether this process is the one that writes (rank 0, or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0
