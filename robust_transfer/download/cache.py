"""Cache folder of downloads: torch.hub's, with a record of address and sha256 beside each file."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from robust_transfer.errors import CheckpointError, OutputError
from robust_transfer.progress import tell
from robust_transfer.texts import read_json

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def cache_folder() -> Path:
    """Folder of downloads: ``hub/checkpoints`` below ``TORCH_HOME`` (else ``~/.cache/torch``), as in torch.hub."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


@dataclass(frozen=True)
class Record:
    """Record beside a file: address and sha256, with the size and modification time for which the sha256 is valid.

    ``name``: the server's name for it. ``since``: the day on which the sha256 was first recorded.
    """

    address: str
    sha256: str
    size: int
    modified_ns: int
    name: str | None
    since: str

    def fits(self, path: Path) -> bool:
        """True if the file is unmodified since its sha256 was recorded."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size, self.modified_ns)


def record_path(path: Path) -> Path:
    """Path of the record of a file in the cache folder."""
    return path.with_name(path.name + ".json")


def read_record(path: Path) -> Record | None:
    """Record of a file, None where there is none. Raises :class:`CheckpointError` for a damaged one."""
    beside = record_path(path)
    try:
        return Record(**read_json(beside))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise CheckpointError(f"the record {beside} of a download is damaged: delete it") from None


def write_record(path: Path, address: str, sha256: str, name: str | None) -> None:
    """Record a file's address and sha256."""
    found = path.stat()
    record = Record(address, sha256, found.st_size, found.st_mtime_ns, name, datetime.now(UTC).date().isoformat())
    with storing(path):
        new = record_path(path).with_name(path.name + ".json.part")
        new.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
        new.replace(record_path(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path, hidden: bool) -> Iterator[bool]:
    """Hold a lock on ``path``, for which other processes wait; False where the folder is read-only and needs no lock."""
    lock_path = path.with_name(path.name + ".lock")
    while True:
        lock = FileLock(lock_path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                tell(hidden, f"another process is downloading {path.name}: waiting for it")
                lock.acquire()
        except OSError as error:
            if path.is_file() and error.errno in _READ_ONLY:  # a read-only cache
                yield False
                return
            raise OutputError(storing_message(path, error)) from None
        if lock_path.exists():
            break
        lock.release()  # its last holder removed the file between our opening and locking it
    try:
        yield True
    finally:
        lock_path.unlink(missing_ok=True)  # while it is held: later processes create a new one
        lock.release()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Convert disk errors inside the block to :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(storing_message(path, error)) from None


def storing_message(path: Path, error: OSError) -> str:
    """Error message for a file that could not be stored in the cache folder."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full, so {path} was not downloaded: free some space and run again, which resumes from there, "
            f"or set TORCH_HOME to a folder with more room"
        )
    return f"cannot write {path} ({error.strerror or error}): set TORCH_HOME to a folder that can be written"
