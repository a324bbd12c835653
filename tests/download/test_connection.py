"""Answers of a server or the network in place of a file: one sentence each, with advice."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from web import Reply, Site

from robust_transfer.download import fetch
from robust_transfer.errors import CheckpointError


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (
            400,
            r"answered 400 Bad Request: check the address, or get the file yourself and put it at /.*/x_at_\w{10}\.pt$",
        ),
        (
            401,
            r"is not open to everybody \(401 Unauthorized\): log in with a browser .* and put it at /.*/x_at_\w{10}\.pt$",
        ),
        (403, r"is not open to everybody \(403 Forbidden\)"),
        (404, r"there is no file at http://127.*/x\.pt \(404 Not Found\): check the address, or get the file yourself"),
        (407, r"the proxy wants a password \(407 Proxy Authentication Required\): set HTTPS_PROXY"),
        (410, r"is gone for good \(410 Gone\): look for it elsewhere and put it at /.*\.pt$"),
        (451, r"answered 451 Unavailable For Legal Reasons"),
    ],
)
def test_answers_that_no_further_try_changes(
    site: Site, tmp_path: Path, waited: list[float], status: int, message: str
) -> None:
    site.pages["/x.pt"] = Reply(b"<html>no</html>", status)
    with pytest.raises(CheckpointError, match=message) as raised:
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert len(site.asked) == 1
    assert waited == []
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_an_answer_that_is_no_file(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = Reply(b"", 204)
    with pytest.raises(CheckpointError, match="answered 204 No Content, which is no file"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_answers_that_may_change(site: Site, tmp_path: Path, waited: list[float], status: int) -> None:
    site.pages["/x.pt"] = [Reply(b"", status), Reply(b"", status), Reply(b"weights")]
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).path.read_bytes() == b"weights"
    assert waited == [1.0, 2.0]


def test_a_server_says_how_long_to_wait(site: Site, tmp_path: Path, waited: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    answers = [Reply(b"", 429, {"Retry-After": "7"}), Reply(b"", 503, {"Retry-After": soon}), Reply(b"weights")]
    site.pages["/x.pt"] = [*answers[:2], Reply(b"", 429, {"Retry-After": "soon"}), answers[2]]
    fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert waited[0] == 7.0
    assert 25 < waited[1] <= 30
    assert waited[2] == 4.0, "what is not understood"
    site.pages["/y.pt"] = Reply(b"", 429, {"Retry-After": "3600"})
    with pytest.raises(
        CheckpointError, match=r"takes no more requests for now, 429 .*: try again in 3600 seconds, or get"
    ):
        fetch(f"{site.address}/y.pt", folder=tmp_path, hidden=True)
    site.pages["/z.pt"] = Reply(b"", 500)
    with pytest.raises(
        CheckpointError,
        match=r"/z\.pt: 127\.0\.0\.1 has trouble, 500 Internal Server Error, 4 times: run again later, or get",
    ):
        fetch(f"{site.address}/z.pt", folder=tmp_path, hidden=True)


def test_redirects_are_followed(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = Reply(b"", 302, {"Location": "/far/y.pt?sig=1"})
    body = b"weights" * 1000
    site.pages["/far/y.pt?sig=1"] = [Reply(body, etag='"1"', cut=5000), Reply(body, etag='"1"')]
    found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert found.path.read_bytes() == body
    assert found.address == f"{site.address}/x.pt"
    assert site.ranges == [None, None, "bytes=5000-", "bytes=5000-"]


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("/x.pt", r"/x\.pt is redirected in circles or to nowhere \(302 Found\): check the address$"),
        ("file:///etc/passwd", r"/x\.pt is redirected in circles or to nowhere"),
        ("ftp://a.org/x.pt", r"is redirected to ftp://a.org/x.pt, which is no web address"),
    ],
)
def test_redirects_that_are_not_followed(site: Site, tmp_path: Path, to: str, message: str) -> None:
    site.pages["/x.pt"] = Reply(b"", 302, {"Location": to})
    with pytest.raises(CheckpointError, match=message):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)


def test_what_is_secret_stays_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from robust_transfer.download.addresses import read_address
    from robust_transfer.download.connection import _Redirects

    handler = _Redirects(read_address("https://a.org/x.pt"))
    asked = urllib.request.Request("https://a.org/x.pt")
    headers = http.client.HTTPMessage()
    with pytest.raises(
        CheckpointError, match=r"https://a\.org/x\.pt is redirected to http://b\.org/x\.pt, where anybody"
    ):
        handler.redirect_request(asked, None, 302, "", headers, "http://b.org/x.pt")  # type: ignore[arg-type]
    followed = handler.redirect_request(asked, None, 302, "", headers, "https://b.org/x.pt")  # type: ignore[arg-type]
    assert followed is not None


def test_a_proxy_is_taken_from_the_environment(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.address)
    site.pages["http://weights.invalid/x.pt"] = Reply(b"weights")
    assert fetch("http://weights.invalid/x.pt", folder=tmp_path, hidden=True).path.read_bytes() == b"weights"


def test_nobody_there(tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = (
        rf"^http://127\.0\.0\.1:{port}/x\.pt was not reached \(Connection refused\): check the network and HTTPS_PROXY, "
        rf"or get the file yourself and put it at {tmp_path}/x_at_\w{{10}}\.pt$"
    )
    with pytest.raises(CheckpointError, match=message):
        fetch(f"http://127.0.0.1:{port}/x.pt", folder=tmp_path, hidden=True)
    assert waited == [1.0, 2.0, 4.0]


def test_somebody_who_says_nothing(tmp_path: Path, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with pytest.raises(
            CheckpointError, match=r"was not reached \((it did not answer in time|nothing came for 0.05 sec)"
        ):
            fetch(f"http://127.0.0.1:{port}/x.pt", folder=tmp_path, hidden=True, timeout=0.05)
    assert len(waited) == 3


@pytest.mark.parametrize(
    ("error", "message", "tries"),
    [
        (socket.gaierror(-2, "Name or service not known"), r"was not reached \(Name or service not known\)", 4),
        (
            ssl.SSLCertVerificationError("no"),
            r"the certificate of a\.org is not trusted \(.*\): .* set SSL_CERT_FILE",
            1,
        ),
        (OSError("Tunnel connection failed: 403 Forbidden"), r"the proxy does not let https://a\.org/x\.pt through", 1),
        (TimeoutError(), "it did not answer in time", 4),
        (ConnectionResetError(), "was not reached", 4),
    ],
)
def test_a_network_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waited: list[float], error: OSError, message: str, tries: int
) -> None:
    asked = list[object]()
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = "self-signed certificate"

    def fail(*_: object, **__: object) -> None:
        asked.append(1)
        raise urllib.error.URLError(error)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    with pytest.raises(CheckpointError, match=message):
        fetch("https://a.org/x.pt", folder=tmp_path, hidden=True)
    assert len(asked) == tries
