"""Servers that answer with something else: pages, other files, redirections, drips, lengths and ranges that lie."""

from __future__ import annotations

import gzip
import os
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from hostile_case import READ, REFUSED, Case
from hostile_checkpoints import GIVEN, files

FAMILY = "servers"
Answer = Callable[[socket.socket, bytes], None]  # what a server does with a request
OK = b"HTTP/1.1 200 OK\r\n"


def sends(*parts: bytes, every: float = 0.0, times: int = 1) -> Answer:
    """Parts that are sent one after the other, with a pause after each, so many times."""

    def answer(peer: socket.socket, asked: bytes) -> None:
        for _ in range(times):
            for part in parts:
                peer.sendall(part)
                if every:
                    time.sleep(every)

    return answer


def page(body: bytes, kind: str = "text/html") -> Answer:
    return sends(OK + f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def header(text: str | bytes, body: bytes = b"") -> Answer:
    """Header lines, then the body, then the connection is closed."""
    lines = text if isinstance(text, bytes) else text.encode("latin-1")
    return sends(OK + lines + b"\r\n\r\n" + body)


def status(line: str, more: str = "") -> Answer:
    return sends(f"HTTP/1.1 {line}\r\n{more}Content-Length: 0\r\n\r\n".encode("latin-1"))


def _bomb() -> bytes:
    """768 MB in one stream, of blocks that are all the same."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block * 768 + packer.flush()


def by_range(first: Answer, later: Answer) -> Answer:
    """Another answer where a part is asked for."""
    return lambda peer, asked: (later if b"\r\nRange:" in asked else first)(peer, asked)


def serve(answer: Answer) -> int:
    """Port of a server in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))

    def one(peer: socket.socket) -> None:
        with peer:
            try:
                asked = peer.recv(65536)
                answer(peer, asked)
                peer.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def run() -> None:
        while True:
            peer, _ = listening.accept()
            threading.Thread(target=one, args=(peer,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    return int(listening.getsockname()[1])


def _impatient() -> None:
    """Waits of a minute become one of a second; the paths of the code stay the same."""
    from robust_transfer.download import connection, fetching, transfer

    assert fetching.fetch.__kwdefaults__ is not None
    fetching.fetch.__kwdefaults__["timeout"] = 1.0
    connection.HEADER_SECONDS, transfer.SLOW_SECONDS = 1.5, 1.5
    transfer._wait = lambda seconds: time.sleep(min(seconds, 0.1))
    os.environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _make(folder: Path, answer: Answer, name: str) -> Sequence[object]:
    _impatient()
    return "inspect", f"http://127.0.0.1:{serve(answer)}/{name}", *GIVEN["set"]


def cases(chance: random.Random) -> Iterator[Case]:
    weights = files()["x.safetensors"]
    half = len(weights) // 2
    tagged = f'ETag: "a"\r\nContent-Length: {len(weights)}'
    begun = header(tagged, weights[:half])

    def part(content_range: str, body: bytes, more: str = "") -> Answer:
        text = f"HTTP/1.1 206 Partial Content\r\n{more}Content-Range: {content_range}\r\nContent-Length: {len(body)}\r\n\r\n"
        return sends(text.encode("latin-1") + body)

    whole = len(weights)
    kept = f"bytes {half}-{whole - 1}/{whole}"
    made: dict[str, Answer] = {
        "a page": page(b"<!DOCTYPE html><html><title>Sign in</title></html>"),
        "a page with an escape as its title": page(b"<html><title>\x1b]0;owned\x07\xe2\x80\xae<script></title>"),
        "a page of an assertion": page(b"<html><![foo[bar]]>"), "a page of declarations": page(b"<html>" + b"<!x" * 300_000),
        "a page of comments": page(b"<html>" + b"<!--" * 200_000), "a page of tags": page(b"<html>" + b"<a " * 300_000),
        "a page of entities": page(b"<html><title>" + b"&#x110000;&#9999999999;" * 40_000),
        "a page of quotes": page(b"<html><a b='" * 80_000),
        "a page of processing": page(b"<html>" + b"<?x " * 200_000),
        "a page of titles": page(b"<html>" + b"<title>x" * 100_000),
        "a page that never ends": header("Content-Type: text/html", b"<html>" + b"x" * (1 << 25)),
        "XML": page(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
        "JSON": page(b'{"error": "\\u001b[2Jno"}', "application/json"),
        "an LFS pointer": page(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "text/plain"),
        "nothing": page(b""), "zeros": page(bytes(1 << 20)),
        "a pickle": page(b"\x80\x02cos\nsystem\nX\x0c\0\0\0touch canary\x85R."),
        "no HTTP": sends(b"\x00\xff" * 1000), "a closed connection": sends(), "SSH": sends(b"SSH-2.0-OpenSSH\r\n"),
        "HTTP/0.9": sends(weights[:1000]),
        "a status of words": status("OK"), "status 999": status("999 x"), "status 600": status("600 x"),
        "status 204": status("204 No Content"),
        "status 304": status("304 Not Modified"), "status 206 unasked": part(kept, weights[half:]),
        "status 401": status("401 x"),
        "status 404 with an escape": status("404 \x1b[2J"), "status 410": status("410 Gone"), "status 416": status("416 x",
        "Content-Range: bytes */9\r\n"),
        "status 416 of digits": status("416 x", "Content-Range: bytes */" + "9" * 5000 + "\r\n"),
        "status 429": status("429 x", "Retry-After: 99999999\r\n"),
        "status 416 of a power": status("416 x", "Content-Range: bytes */\xb2\r\n"),
        "status 503 of a power": status("503 x", "Retry-After: \xb2\r\n"), "status 503 of digits": status("503 x",
        "Retry-After: " + "9" * 5000 + "\r\n"),
        "status 503 of no date": status("503 x", "Retry-After: Mon, 99 Xxx 99999 99:99:99 GMT\r\n"),
        "status 503 of a year": status("503 x", "Retry-After: Mon, 01 Jan 9999 00:00:00 +9999\r\n"),
        "status 503 below 0": status("503 x", "Retry-After: -5\r\n"),
        "100 without end": sends(b"HTTP/1.1 100 Continue\r\n\r\n", every=0.05, times=400),
        "102 without end": sends(b"HTTP/1.1 102 Processing\r\n\r\n", times=5),
        "a slow header": sends(OK, *[bytes([c]) for c in b"X-Slow: " + b"a" * 300], every=0.2),
        "a slow status": sends(*[bytes([c]) for c in OK * 20], every=0.2), "many slow headers": sends(OK,
        *[b"A: b\r\n"] * 90, every=0.3),
        "a thousand headers": header("\r\n".join(f"A{i}: b" for i in range(1000))),
        "a header of a megabyte": header("A: " + "b" * 2**20),
        "no colon in a header": header("what is this"), "a length of words": header("Content-Length: many", weights),
        "a length of a power": header("Content-Length: \xb2", weights),
        "a length of digits": header("Content-Length: " + "9" * 5000, weights),
        "a negative length": header("Content-Length: -5", weights),
        "two lengths": header("Content-Length: 5\r\nContent-Length: 9", weights),
        "a length too large": header(f"Content-Length: {2**62}", weights),
        "a length too small": header("Content-Length: 100", weights),
        "a length beyond": header(f"Content-Length: {whole + 100}", weights),
        "chunks that lie": header("Transfer-Encoding: chunked", b"ffffffff\r\nabc"),
        "chunks of words": header("Transfer-Encoding: chunked", b"xyz\r\nabc\r\n0\r\n\r\n"),
        "negative chunks": header("Transfer-Encoding: chunked", b"-5\r\nabc\r\n0\r\n\r\n"),
        "a line of a chunk": header("Transfer-Encoding: chunked", b"5;" + b"x" * 2**20),
        "chunks without end": header("Transfer-Encoding: chunked", b"1\r\na\r\n" * 10_000),
        "an unknown transfer": header("Transfer-Encoding: x", weights),
        "a coding of nothing": header("Content-Encoding: gzip", weights), "an unknown coding": header("Content-Encoding: br",
        weights),
        "a coding that is cut off": header("Content-Encoding: gzip", gzip.compress(weights)[:-20]),
        "a coding of a gigabyte": header("Content-Encoding: gzip",
        gzip.compress(bytes(1 << 20)) + gzip.compress(bytes(1 << 24)) * 64),
        "a coding that unfolds": header("Content-Encoding: gzip", _bomb()),
        "a coding twice": header("Content-Encoding: gzip, gzip", gzip.compress(gzip.compress(weights))),
        "a body that drips": sends(OK + b"Content-Length: 1000000\r\n\r\n", *[b"x"] * 60, every=0.2),
        "a body that drips on": by_range(sends(OK + b'ETag: "a"\r\nContent-Length: 1000000\r\n\r\n' + b"x" * 5000,
        *[b"x"] * 20, every=0.2),
                                         sends(b"HTTP/1.1 500 x\r\n\r\n")),
        "a body that stops": sends(OK + b"Content-Length: 1000000\r\n\r\nabc", every=20),
        "another range": by_range(begun, part("bytes 0-9/100", b"x" * 10)), "a range of words": by_range(begun,
        part("bytes x-y/z", b"x" * 10)),
        "a range without a place": by_range(begun, sends(b"HTTP/1.1 206 x\r\nContent-Length: 3\r\n\r\nabc")),
        "a range of another version": by_range(begun, part(kept, weights[half:], 'ETag: "b"\r\n')),
        "a range of another length": by_range(begun, part(f"bytes {half}-{whole}/{whole + 1}", weights[half:] + b"x")),
        "a range of other bytes": by_range(begun, part(kept, bytes(whole - half))), "a range too long": by_range(begun,
        part(kept, weights[half:] + b"x" * 500)),
        "a range too short": by_range(begun, part(kept, weights[half : half + 5])), "a range that is empty": by_range(begun,
        part(kept, b"")),
        "the beginning as a range": by_range(begun, part(kept, weights[:half])), "416 to a range": by_range(begun,
        status("416 x", "Content-Range: bytes */7\r\n")),
        "404 to a range": by_range(begun, status("404 x")), "a page to a range": by_range(begun, page(b"<html>")),
        "a range in digits": by_range(begun, part("bytes " + "9" * 5000 + "-9/9", b"x")), "multiple parts": by_range(begun,
        header("Content-Type: multipart/byteranges; boundary=x")),
    }  # fmt: skip
    for name, answer in made.items():
        yield Case(
            FAMILY,
            name,
            partial(_make, answer=answer, name="x.safetensors"),
            None if "length too small" in name else REFUSED,
        )
    ends: dict[str, Answer] = {
        "the rest of a file": by_range(begun, part(kept, weights[half:])), "the whole file again": by_range(begun,
        header(f"Content-Length: {whole}", weights)),
        "a file without a length": header("Content-Type: x", weights), "a file in a coding": header("Content-Encoding: gzip",
        gzip.compress(weights)),
    }  # fmt: skip
    for name, answer in ends.items():
        yield Case(FAMILY, f"harmless: {name}", partial(_make, answer=answer, name="x.safetensors"), READ)
    places = ("/x", "", "//", "http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:0x/", "file:///etc/passwd",
    "ftp://127.0.0.1/x", "data:,x",
              "javascript:alert(1)", "gopher://127.0.0.1/", "http://", "\xe9", "http://127.0.0.1:9/\xff", "http:///x",
              "x" * 60_000, "http://a b/",
              "http://127.0.0.1:9/ x", "?" * 100, "\x1b[2J", "http://user:pass@127.0.0.1:9/", "hf:x/y", "/etc/passwd",
              "C:\\x", "http://127.0.0.1:1/")  # fmt: skip
    for code in (301, 302, 303, 307, 308, 300, 305):
        yield Case(
            FAMILY,
            f"{code} in circles",
            partial(_make, answer=status(f"{code} x", "Location: /x.pt\r\n"), name="x.pt"),
            REFUSED,
        )
    for place in places:
        answer = status("302 x", f"Location: {place}\r\n")
        yield Case(FAMILY, f"redirected to {place[:30]!r}", partial(_make, answer=answer, name="x.pt"), REFUSED)
    yield Case(FAMILY, "redirected without end", partial(_make, answer=_onwards, name="x.pt"), REFUSED)
    yield Case(FAMILY, "redirected without a place", partial(_make, answer=status("302 x"), name="x.pt"), REFUSED)
    for name in ("x-0123456789ab.pt", "x-deadbeef.safetensors"):
        yield Case(
            FAMILY, f"another checksum than {name}", partial(_make, answer=page(weights, "x"), name=name), REFUSED
        )
    suggested = (
        "../../../canary.pt",
        "/etc/cron.d/x",
        "\x1b[2J.pt",
        "a\\b.pt",
        "x" * 10_000,
        "",
        '"',
        "=?utf-8?b?////?=",
        "CON",
        "..",
        "a;b",
    )
    for name in suggested:
        answer = header(f'Content-Length: {whole}\r\nContent-Disposition: attachment; filename="{name}"', weights)
        yield Case(FAMILY, f"called {name[:30]!r} by its server", partial(_make, answer=answer, name="get"), READ)
    for text in ("attachment; filename*=utf-8''%ff%fe", "attachment; filename*0*=x; filename*" + "9" * 5000 + "*=y",
    "filename*=x'y'z", ";;;=", "a" * 60_000,
                 "attachment; filename*=none''%41", "attachment; filename*1=b; filename*0=a",
                 "attachment; filename=" + "\xff" * 100):  # fmt: skip
        answer = header(f"Content-Length: {whole}\r\nContent-Disposition: {text}", weights)
        yield Case(FAMILY, f"a disposition {text[:40]!r}", partial(_make, answer=answer, name="get"), READ)
    for address in ("http://", "http://[", "http://127.0.0.1:x/", "http://127.0.0.1:99999/x", "http://127.0.0.1:9/x",
    "http://user:pw@127.0.0.1/x", "gdrive:",
                    "gdrive:../../x", "gdrive:" + "x" * 5000, "http://127.0.0.1:9/\x1b[2J", "http://127.0.0.1:9/a b",
                    "http://127.0.0.1:9/%00", "http://127.0.0.1:9/" + "a" * 70_000,
                    "http://127.0.0.1:9/..%2f..%2fcanary", "hf:", "hf:../..", "hf:x", "hf:x/y@../z", "hf:x/y/../../z",
                    "hf:\x1b[2J/x", "http://127.0.0.1:\u00b2/x"):  # fmt: skip
        yield Case(FAMILY, f"the address {address[:40]!r}", partial(_address, address=address), REFUSED)


def _onwards(peer: socket.socket, asked: bytes) -> None:
    number = asked.split()[1].decode().strip("/x.pt") or "0"
    peer.sendall(f"HTTP/1.1 302 x\r\nLocation: /{int(number) + 1}\r\nContent-Length: 0\r\n\r\n".encode())


def _address(folder: Path, address: str) -> Sequence[object]:
    _impatient()
    os.environ["HF_HUB_OFFLINE"] = "1"
    return "inspect", address
