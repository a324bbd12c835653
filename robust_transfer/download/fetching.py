"""``fetch``: download a file into the cache folder once, and identify it by its sha256."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from robust_transfer.download import pages
from robust_transfer.download.addresses import Address, read_address
from robust_transfer.download.cache import (
    Record,
    cache_folder,
    locked,
    read_record,
    record_path,
    sha256_of,
    storing,
    write_record,
)
from robust_transfer.download.transfer import Transfer
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.files import expanded
from robust_transfer.progress import tell

TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Fetched:
    """Downloaded file.

    ``address``: the form on a card; on the Hugging Face Hub with the commit, ``hf:OWNER/REPO@COMMIT/FILE``.
    ``revision``: that commit, None elsewhere. ``name``: the server's name for the file. ``beside``: other files of
    the same revision that belong to it, in its folder: shards, ``config.json``.
    """

    path: Path
    sha256: str
    address: str
    revision: str | None = None
    name: str | None = None
    beside: tuple[Path, ...] = ()


def fetch(
    address: str,
    *,
    sha256: str | None = None,
    folder: Path | str | None = None,
    hidden: bool = False,
    timeout: float = TIMEOUT,
) -> Fetched:
    """Download a file, or find the one that an earlier call or torch.hub downloaded.

    ``address``: ``https://...``, ``http://...``, ``gdrive:ID`` or a link to a file on Google Drive, or
    ``hf:OWNER/REPO[@REVISION][/FILE]``, see :func:`robust_transfer.download.hub.fetch_from_hub`. ``sha256``: the
    expected hash in hexadecimal, or at least its first eight digits. Without it, the digits in a name such as
    ``resnet50-11ad3fa6.pth`` are checked; the sha256 is recorded beside the file, and a changed file under the same
    address is reported. ``folder``: replaces torch.hub's ``hub/checkpoints`` (for the Hub: its cache). ``hidden``: no
    bar, no messages. ``timeout``: seconds without a byte.

    An interrupted download resumes, also in a later call; the file is written atomically. Several processes download
    it once. Raises :class:`ConfigError` for an invalid address, :class:`CheckpointError` for a missing file, an
    unreachable server or another sha256, :class:`OutputError` where the disk fails.
    """
    expected = _expected(sha256)
    if address.startswith("hf:"):
        from robust_transfer.download.hub import fetch_from_hub

        path, beside, pinned, commit = fetch_from_hub(address, folder=folder, hidden=hidden, timeout=timeout)
        digest = sha256_of(path)
        _check(digest, expected, path, f"{pinned} has")
        return Fetched(path, digest, pinned, commit, path.name, beside)
    where = read_address(address)
    path = (expanded(folder) if folder is not None else cache_folder()) / where.name
    with locked(path, hidden) as writable:
        record = read_record(path)
        if path.is_file():
            return _found(where, path, record, expected, writable, hidden)
        if where.text.startswith("http://") and not (expected or where.stated):
            insecure = f"{where.text} comes over a connection that is not secret: anybody on the way could change it"
            tell(hidden, insecure, warning=True)
        return _downloaded(
            where, path, record, expected, Transfer(where, path, _known(where, expected), hidden, timeout)
        )


def _known(where: Address, expected: str | None) -> bool:
    return expected is not None or where.stated is not None


def _expected(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{8,64}", digits := sha256.strip().lower()):
        raise ConfigError(f"{sha256!r} is no sha256: give its 64 hexadecimal digits, or the first eight or more")
    return digits


def _check(digest: str, expected: str | None, path: Path, what: str) -> None:
    if expected is not None and not digest.startswith(expected):
        raise CheckpointError(
            f"{what} the sha256 {digest}, and {expected} was to be expected: it is another file or a damaged one "
            f"(asked for at {path})"
        )


def _found(
    where: Address, path: Path, record: Record | None, expected: str | None, writable: bool, hidden: bool
) -> Fetched:
    """File in the cache: its sha256 is computed unless it is recorded and not asked for."""
    if record is not None and expected is None and record.fits(path):
        return Fetched(path, record.sha256, where.text, name=record.name)
    with path.open("rb") as file:
        if pages.is_page(file.read(pages.SNIFFED_BYTES)):
            raise CheckpointError(
                f"{path} is a web page, not a file of weights: delete it, and download the file itself"
            )
    digest = sha256_of(path)
    if record is not None and digest != record.sha256:
        raise CheckpointError(
            f"{path} is no longer what was downloaded from {where.text} (sha256 {digest}, recorded on {record.since}: "
            f"{record.sha256}): delete it to download it again"
        )
    _check(digest, expected or where.stated, path, f"{path} has")
    if writable and (record is None or not record.fits(path)):
        if record is None:
            tell(hidden, f"{path} was there already: taken for {where.text}, sha256 {digest}")
        write_record(path, where.text, digest, record.name if record else None)
    return Fetched(path, digest, where.text, name=record.name if record else None)


def _downloaded(where: Address, path: Path, record: Record | None, expected: str | None, transfer: Transfer) -> Fetched:
    transfer.run()
    wanted = expected or where.stated
    digest = sha256_of(transfer.part)
    if transfer.resumed and wanted is not None and not digest.startswith(wanted):
        tell(transfer.hidden, f"what was begun of {where.text} does not fit its rest: starting over")
        transfer.forget()
        transfer.run()
        digest = sha256_of(transfer.part)
    try:
        _check(digest, wanted, path, f"{where.text} gives a file that has")
        if record is not None and digest != record.sha256 and expected is None:
            raise CheckpointError(
                f"{where.text} has changed: its sha256 is {digest}, and on {record.since} it was {record.sha256}. What was "
                f"computed with the two is not the same; delete {record_path(path)} to take the new one"
            )
    except CheckpointError:
        transfer.forget()
        raise
    with storing(path):
        with transfer.part.open("r+b") as file:
            os.fsync(file.fileno())  # some file systems say only here that the disk is full
        transfer.part.replace(path)
        transfer.notes.unlink(missing_ok=True)
    write_record(path, where.text, digest, transfer.name)
    return Fetched(path, digest, where.text, name=transfer.name)
