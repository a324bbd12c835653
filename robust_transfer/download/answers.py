"""HTTP responses with a file: version of the file, continuation of a partial download, content coding."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from robust_transfer.download.addresses import Address, safe_name
from robust_transfer.download.connection import Interrupted, count_of
from robust_transfer.errors import CheckpointError

UNPACKED_BYTES = 2**20  # of a block at once: a bomb has a thousand times as many


@dataclass(frozen=True)
class Beginning:
    """Version of a partial file. ``etag``, ``modified``: the server's identifiers of that version."""

    etag: str | None = None
    modified: str | None = None
    whole: int | None = None
    encoded: bool = False
    name: str | None = None

    @property
    def validator(self) -> str | None:
        """Value for ``If-Range``: a strong entity tag, else the date (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def said(answer: http.client.HTTPResponse) -> Beginning:
    """Version of the file that a response begins to send."""
    whole = count_of(answer.headers.get("Content-Length"))
    encoded = _coding(answer) is not None
    try:
        name = safe_name(answer.headers.get_filename())
    except (ValueError, TypeError, LookupError):  # a header that breaks its own rules
        name = None
    return Beginning(answer.headers.get("ETag"), answer.headers.get("Last-Modified"), whole, encoded, name)


def goes_on(answer: http.client.HTTPResponse, beginning: Beginning, have: int) -> bool:
    """True if a 206 continues the partial file: same offset, total length and version."""
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    same_length = beginning.whole is None or whole in ("*", str(beginning.whole))
    same_version = beginning.etag in (None, answer.headers.get("ETag", beginning.etag))
    return unit == "bytes" and span.startswith(f"{have}-") and same_length and same_version and _coding(answer) is None


def _coding(answer: http.client.HTTPResponse) -> str | None:
    """Content coding to undo. Servers often declare one for a file that is a .gz itself."""
    coding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in ("", "identity") or urlsplit(answer.url).path.endswith((".gz", ".tgz")):
        return None
    return coding


def decoded(blocks: Iterator[bytes], answer: http.client.HTTPResponse, address: Address) -> Iterator[bytes]:
    """Body of a response, its coding undone. Raises :class:`Interrupted` for a damaged or truncated one."""
    coding = _coding(answer)
    if coding is None:
        yield from blocks
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise CheckpointError(f"{address.text} comes in the coding {coding!r}, which is not read: download it yourself")
    decoder = zlib.decompressobj(wbits=47)  # gzip or zlib, as its header says
    try:
        for block in blocks:
            while block and (plain := decoder.decompress(block, UNPACKED_BYTES)):
                yield plain
                block = decoder.unconsumed_tail
        if plain := decoder.flush():
            yield plain
    except zlib.error as error:
        raise Interrupted(f"its {coding} coding is damaged ({error})") from None
    if not decoder.eof:
        raise Interrupted(f"its {coding} coding ends too early")
