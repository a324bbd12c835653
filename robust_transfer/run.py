"""Run: conditions of a computation (seed, device, precision, threads) and its output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, BeforeValidator
from threadpoolctl import threadpool_limits

from robust_transfer import run_folder, tracking
from robust_transfer.config import config
from robust_transfer.errors import ConfigError
from robust_transfer.files import expanded
from robust_transfer.hardware import gains_by_bfloat16
from robust_transfer.launch import place

MAX_THREADS = 1024  # more are a slip, and some libraries would die of them
Precision = Literal["auto", "float32", "bfloat16"]
Folder = Annotated[Path, AfterValidator(expanded)]  # "~/x" is the home folder's x
Trackers = Annotated[tuple[str, ...], BeforeValidator(tracking.parse)]


@config
class Run:
    """Seed, device, precision and threads of a computation, and its output folder.

    ``device``: ``auto`` (CUDA if available), ``cpu``, ``cuda``, ``cuda:1``, ``mps``. ``precision``: ``auto`` takes
    bfloat16 where the hardware gains by it (CUDA of compute capability 8 and above, CPUs with AMX, CPUs with
    AVX-512's bfloat16 products if measured to be faster) and float32 elsewhere; verdicts are always float32.
    ``threads``: number of CPU threads (None: PyTorch's default). ``out``: folder for results, or None to keep them in
    memory. ``cache``: folder for features and solved heads shared between runs, or None. ``track``: experiment
    trackers, of ``tensorboard``, ``wandb``, ``mlflow`` and ``trackio``, such as ``("wandb",)``; their run continues
    if ``out`` is resumed.
    """

    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None
    out: Folder | None = None
    cache: Folder | None = None
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    track: Trackers = ()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must be between 0 and 2^31 - 1, not {self.seed}")
        if self.threads is not None and not 1 <= self.threads <= MAX_THREADS:
            raise ConfigError(f"threads must be between 1 and {MAX_THREADS}, not {self.threads}")
        if self.resume and self.overwrite:
            raise ConfigError("--resume continues a run and --overwrite removes it: give one of them")
        self.torch_device()  # a wrong name is refused now, not after the data has been loaded

    def torch_device(self) -> torch.device:
        """Device as a ``torch.device``."""
        if self.device == "auto":
            return torch.device("cuda", place().local_rank) if torch.cuda.is_available() else torch.device("cpu")
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
        """Floating-point type of networks: torch.float32 or torch.bfloat16."""
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
        tracking.check(self.track, self.out)
        run_folder.check_out(self.out, resume=self.resume, overwrite=self.overwrite)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Compute with this run's threads and hold its output folder inside the block; may be nested.

        Afterwards PyTorch and BLAS have the threads that they had. Raises :class:`OutputError` where another process holds
        the folder.
        """
        with run_folder.hold(self.out), with_threads(self.threads):
            yield

    def prepare_out(self) -> Path | None:
        """Check the output folder; inside :meth:`at_work` the first write creates it and, with ``overwrite``, empties it."""
        return run_folder.prepare_out(self.out, resume=self.resume, overwrite=self.overwrite)


@contextmanager
def with_threads(count: int | None) -> Iterator[None]:
    """Set the threads of PyTorch and of the BLAS of NumPy and SciPy: the last bits of results depend on them."""
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    with threadpool_limits(count, user_api="blas"):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
