"""Servers that drip, lie in their headers, or lead nowhere: each ends in one sentence, within bounds."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robust_transfer.download import answers, connection, fetch, transfer
from robust_transfer.download.pages import Page
from robust_transfer.errors import CheckpointError, OutputError

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Address on a server that takes each connection's request and leaves the rest to ``answer``."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            with peer:
                try:
                    peer.recv(65536)
                    answer(peer)
                except OSError:
                    continue

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


def says(content: bytes) -> Callable[[socket.socket], None]:
    return lambda peer: peer.sendall(content)


def drips(begin: bytes, each: bytes) -> Callable[[socket.socket], None]:
    def answer(peer: socket.socket) -> None:
        peer.sendall(begin)
        for _ in range(200):
            peer.sendall(each)
            time.sleep(0.02)

    return answer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, waited: list[float]) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.1)
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    monkeypatch.setattr(transfer, "TRIES", 2)


def test_a_body_that_drips_is_given_up(tmp_path: Path) -> None:
    begun = time.monotonic()
    with (
        answering(drips(OK + b"Content-Length: 1000000\r\n\r\n" + b"x" * 3000, b"x")) as address,
        pytest.raises(CheckpointError, match=r"it sent \d+ bytes in 0 seconds, 2 times: run again"),
    ):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("each", [b"A: b\r\n", b"x"])
def test_a_header_that_drips_is_given_up(tmp_path: Path, each: bytes) -> None:
    begun = time.monotonic()
    with answering(drips(OK, each)) as address, pytest.raises(CheckpointError, match="it did not answer in time"):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("length", [b"\xb2", b"-5", b"many", b""])
def test_a_length_that_is_none_is_no_length(tmp_path: Path, length: bytes) -> None:
    with answering(
        says(OK + b"Content-Length: " + length + b"\r\nConnection: close\r\n\r\n" + b"abc" * 2000)
    ) as address:
        assert fetch(f"{address}/x.pt", folder=tmp_path, hidden=True).path.stat().st_size == 6000


@pytest.mark.parametrize("length", [b"9" * 5000, b"1" + bytes(18).replace(b"\0", b"0")])
def test_a_length_that_no_disk_has_is_refused(tmp_path: Path, length: bytes) -> None:
    reply = OK + b"Content-Length: " + length + b"\r\n\r\n" + b"abc" * 2000
    with answering(says(reply)) as address, pytest.raises(OutputError, match=r"needs 1000000000.00 GB, and the disk"):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)


@pytest.mark.parametrize("wait", [b"\xb2", b"9" * 5000, b"Mon, 01 Jan 9999 00:00:00 +9999"])
def test_a_wait_that_is_none_is_no_wait(tmp_path: Path, wait: bytes) -> None:
    reply = b"HTTP/1.1 503 x\r\nRetry-After: " + wait + b"\r\nContent-Length: 0\r\n\r\n"
    with answering(says(reply)) as address, pytest.raises(CheckpointError, match=r"has trouble, 503|try again in"):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)


@pytest.mark.parametrize("place", [b"http://[", b"http://127.0.0.1:x/", b"http://127.0.0.1:99999/"])
def test_a_redirection_to_no_address_is_told(tmp_path: Path, place: bytes) -> None:
    reply = b"HTTP/1.1 302 x\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n"
    with (
        answering(says(reply)) as address,
        pytest.raises(CheckpointError, match=r"redirected to no address|not reached|times"),
    ):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)


@pytest.mark.parametrize("name", [b"filename*0*=x; filename*" + b"9" * 5000 + b"*=y", b"filename*=none''%41", b";;;="])
def test_a_disposition_that_is_none_names_nothing(tmp_path: Path, name: bytes) -> None:
    head = OK + b"Content-Length: 6000\r\nContent-Disposition: attachment; " + name + b"\r\n\r\n"
    with answering(says(head + b"abc" * 2000)) as address:
        assert fetch(f"{address}/x.pt", folder=tmp_path, hidden=True).path.stat().st_size == 6000


def test_a_coding_that_unfolds_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9)
    packed = packer.compress(bytes(64 << 20)) + packer.flush()
    head = OK + b"Content-Encoding: deflate\r\nContent-Length: " + str(len(packed)).encode() + b"\r\n\r\n"
    tracemalloc.start()
    try:
        with answering(says(head + packed)) as address:
            found = fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.path.stat().st_size == 64 << 20
    assert peak < 8 * answers.UNPACKED_BYTES


@pytest.mark.parametrize("reply", [OK, OK + b"A: b\r\n", OK + b"\r\n", OK + b"Content-Length: 0\r\n\r\n"])
def test_nothing_is_no_file(tmp_path: Path, reply: bytes) -> None:
    with answering(says(reply)) as address, pytest.raises(CheckpointError, match="it sent nothing, 2 times"):
        fetch(f"{address}/x.pt", folder=tmp_path, hidden=True)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".pt"]


def test_a_page_that_its_parser_gives_up_on_is_a_page() -> None:
    assert Page(b"<html><title>x</title><![foo[bar]]>", "https://h/x").says == "a web page that says 'x'"
