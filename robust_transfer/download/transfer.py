"""Transfer of one file from a server to a part file in the cache folder, which a later call resumes."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robust_transfer.download import pages
from robust_transfer.download.addresses import Address
from robust_transfer.download.answers import Beginning, decoded, goes_on, said
from robust_transfer.download.cache import storing
from robust_transfer.download.connection import Interrupted, RangeRefused, by_hand, interrupted, request
from robust_transfer.errors import CheckpointError, OutputError
from robust_transfer.progress import Download, download_bar, tell
from robust_transfer.texts import read_json

BLOCK_BYTES = 2**18  # bytes that are read at once
TRIES = 4  # tries in a row that bring next to nothing
SLOW_SECONDS, SLOW_BYTES = 60.0, 2**16  # fewer bytes in so many seconds are next to nothing
SPARE_BYTES = 2**30  # that a file of a length that was not stated leaves free on its disk


@dataclass
class Transfer:
    """Transfer of ``address`` to ``part``, the partial form of ``path``.

    ``checked``: the sha256 is known, so that a partial file may be resumed where the server does not identify its
    version.
    """

    address: Address
    path: Path
    checked: bool
    hidden: bool
    timeout: float
    resumed: bool = field(default=False, init=False)
    name: str | None = field(default=None, init=False)
    led: bool = field(default=False, init=False)  # by a form of Google Drive's, once

    @property
    def part(self) -> Path:
        """Part file."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def notes(self) -> Path:
        """Version of the part file."""
        return self.path.with_name(self.path.name + ".part.json")

    def forget(self) -> None:
        """Remove the part file."""
        with storing(self.path):
            self.part.unlink(missing_ok=True)
            self.notes.unlink(missing_ok=True)

    def run(self) -> None:
        """Transfer the file: attempts continue while bytes arrive, and end after :data:`TRIES` without any.

        Raises :class:`CheckpointError`, and :class:`OutputError` where the disk fails.
        """
        self.led, failed, furthest, url = False, 0, self._have(), self.address.url
        with download_bar(self.address.text.rsplit("/", 1)[-1], self.hidden) as bar:
            while True:
                try:
                    leads_to = self._try(url, bar)
                    if leads_to is None:
                        return
                    url = leads_to
                except RangeRefused as refused:
                    if not (have := self._have()):
                        raise CheckpointError(
                            f"{self.address.text} sends no part of the file and not all of it"
                        ) from None
                    if refused.total == have:
                        self._already_whole()
                        return
                    self.forget()
                except Interrupted as error:
                    have = self._have()
                    failed, furthest = (0 if have > furthest + SLOW_BYTES else failed + 1), max(have, furthest)
                    if failed >= TRIES:
                        raise self._given_up(error, have) from None
                    _wait(error.wait if error.wait is not None else 2.0 ** max(failed - 1, 0))

    def _try(self, url: str, bar: Download) -> str | None:
        """Make one request. Returns None when the file is whole, or the address behind Google Drive's form."""
        beginning, have = self._beginning(), self._have()
        headers = {"Accept-Encoding": "identity"}
        if have and beginning is not None:
            headers["Range"] = f"bytes={have}-"
            if beginning.validator is not None:
                headers["If-Range"] = beginning.validator
        with request(self.address, url, headers, self.path, self.timeout) as answer:
            if answer.status == 206 and not (beginning and goes_on(answer, beginning, have)):
                self.forget()
                raise Interrupted("it sent another part than was asked for", wait=0.0)
            if answer.status == 200:
                beginning, have = said(answer), 0
            assert beginning is not None
            self.name, self.resumed = beginning.name, self.resumed or have > 0
            return self._read(answer, beginning, have, bar)

    def _read(self, answer: http.client.HTTPResponse, beginning: Beginning, have: int, bar: Download) -> str | None:
        self._check_room((beginning.whole or 0) - have)
        blocks = decoded(self._blocks(answer, beginning, have), answer, self.address)
        first = next(blocks, b"")
        if have == 0:
            while len(first) < pages.SNIFFED_BYTES and (more := next(blocks, b"")):
                first += more
            if not first:
                raise Interrupted("it sent nothing", answered=True)
            if pages.is_page(first):
                return self._page(first, blocks, answer.url)
            if pages.is_pointer(first):
                raise CheckpointError(
                    f"{self.address.text} is a pointer of Git LFS, not the file: give the address that its page's "
                    f"Download button has, {by_hand(self.path)}"
                )
        bar.begin(have, None if beginning.encoded else beginning.whole)
        with storing(self.path):
            if have == 0:
                if self.part.exists():
                    tell(self.hidden, f"{self.address.text} cannot be resumed, or has changed: starting over")
                    self.part.unlink()
                self.notes.write_text(json.dumps(asdict(beginning)), encoding="utf-8")
            file, written = self.part.open("ab"), 0
        with file:
            while first:
                with storing(self.path):
                    file.write(first)
                    file.flush()
                bar.advance(len(first))
                written += len(first)
                if written > SPARE_BYTES and (beginning.whole is None or beginning.encoded):
                    self._check_room(SPARE_BYTES)
                    written = 0
                first = next(blocks, b"")
        return None

    def _blocks(self, answer: http.client.HTTPResponse, beginning: Beginning, have: int) -> Iterator[bytes]:
        """Body in blocks. Raises :class:`Interrupted` where it ends before its length."""
        got, lately, waited = have, 0, 0.0
        while True:
            asked = time.monotonic()
            try:
                block = answer.read1(BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise interrupted(error, self.timeout) from None
            if not block:
                break
            got, lately = got + len(block), lately + len(block)
            waited += time.monotonic() - asked  # not what unfolding and writing take
            if waited > SLOW_SECONDS:
                if lately < SLOW_BYTES:
                    raise Interrupted(f"it sent {_size(lately)} in {waited:.0f} seconds", answered=True)
                lately, waited = 0, 0.0
            yield block
        if beginning.whole is not None and got != beginning.whole:
            raise Interrupted(f"the connection broke off after {_size(got)} of {_size(beginning.whole)}")

    def _page(self, first: bytes, rest: Iterator[bytes], url: str) -> str:
        content = first
        while len(content) < pages.MAX_PAGE_BYTES and (more := next(rest, b"")):
            content += more
        page = pages.Page(content, url)
        if self.address.drive and page.leads_to is not None and not self.led:
            self.led = True
            return page.leads_to
        advice = f"download it with a browser from https://drive.google.com/file/d/{self.address.text[7:]}"
        if not self.address.drive:
            advice = pages.hint(self.address.url)
            raise CheckpointError(f"{self.address.text} is {page.says}, not a file: {advice}, {by_hand(self.path)}")
        raise CheckpointError(f"{self.address.text} is {page.says}, not a file: {advice} and put it at {self.path}")

    def _beginning(self) -> Beginning | None:
        """Version of the part file if it can be resumed; otherwise it is removed."""
        try:
            found = Beginning(**read_json(self.notes))
        except (OSError, ValueError, TypeError):
            found = None
        if found is not None and not found.encoded and (self.checked or found.validator is not None) and self._have():
            return found
        self.forget()
        return None

    def _already_whole(self) -> None:
        beginning = self._beginning()
        self.resumed, self.name = True, beginning.name if beginning else None

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _check_room(self, needed: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            raise OutputError(
                f"{self.address.text} needs {_size(needed)}, and the disk of {self.path.parent} has {_size(free)}: free "
                f"some space, or set TORCH_HOME to a folder with more room"
            )

    def _given_up(self, error: Interrupted, have: int) -> CheckpointError:
        if have or error.answered:
            goes_on = have > 0 and self._beginning() is not None
            advice = "run again, which resumes from there" if goes_on else "run again later"
            return CheckpointError(
                f"{self.address.text}: {error.reason}, {TRIES} times: {advice}, {by_hand(self.path)}"
            )
        return CheckpointError(
            f"{self.address.text} was not reached ({error.reason}): check the network and HTTPS_PROXY, "
            f"{by_hand(self.path)}"
        )


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"
