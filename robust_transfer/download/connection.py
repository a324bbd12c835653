"""One HTTP request: redirects, proxies and timeouts; every failure becomes a one-sentence error."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from robust_transfer.download.addresses import Address
from robust_transfer.errors import CheckpointError

HEADER_SECONDS = 60.0  # that a response's header may take in all
LONGEST_WAIT = 60.0  # seconds that a server may ask us to wait before the next try
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class Interrupted(Exception):  # noqa: N818 - it ends in a sentence or in a further try
    """Failed attempt that may succeed later: ``reason``, and the seconds to ``wait`` if the server says so.

    ``answered``: True if the server responded, but not with the file.
    """

    def __init__(self, reason: str, wait: float | None = None, answered: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.wait, self.answered = reason, wait, answered


class RangeRefused(Exception):  # noqa: N818 - it is no error: the file is whole, or begun anew
    """Response 416: the file has no bytes beyond the requested offset; ``total`` is its length, if stated."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


def request(
    address: Address, url: str, headers: dict[str, str], path: Path, timeout: float
) -> http.client.HTTPResponse:
    """Response 200 or 206 from the server of ``url``; ``path`` is the file's destination, for error messages.

    Proxies are taken from the environment (``HTTPS_PROXY``, ``NO_PROXY``). Raises :class:`CheckpointError` for
    permanent failures, :class:`Interrupted` for temporary ones, and :class:`RangeRefused`.
    """
    opener = urllib.request.build_opener(_Redirects(address), _Http, _Https)
    asked = urllib.request.Request(url, headers={"User-Agent": _user_agent(), "Accept": "*/*", **headers})
    try:
        answer: http.client.HTTPResponse = opener.open(asked, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _refuse(address, error, path)
            raise  # unreachable: _refuse always raises
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise _failure(address, error) from None
    except ValueError as error:  # what a redirection names is no address
        raise CheckpointError(f"{address.text} is redirected to no address ({error}); {by_hand(path)}") from None
    if answer.status not in (200, 206):
        answer.close()
        raise CheckpointError(
            f"{address.text} answered {answer.status} {answer.reason}, which is no file; {by_hand(path)}"
        )
    return answer


def interrupted(error: Exception, timeout: float) -> Interrupted:
    """Error for a failure while the file was being read."""
    if isinstance(error, TimeoutError):
        return Interrupted(f"nothing came for {timeout:g} seconds")
    return Interrupted(f"the connection broke off: {error or type(error).__name__}")


def by_hand(path: Path) -> str:
    """Advice for every download failure, a clause."""
    return f"or get the file yourself and put it at {path}"


def _failure(address: Address, error: Exception) -> Exception:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        host = urlsplit(address.url).hostname
        return CheckpointError(
            f"the certificate of {host} is not trusted ({reason.verify_message}): behind a proxy that looks into "
            f"connections, set SSL_CERT_FILE to its certificates"
        )
    if isinstance(reason, TimeoutError):
        return Interrupted("it did not answer in time")
    if isinstance(reason, OSError) and "Tunnel connection failed" in str(reason):
        return CheckpointError(f"the proxy does not let {address.text} through ({reason}): check HTTPS_PROXY")
    return Interrupted(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)


def _refuse(address: Address, error: urllib.error.HTTPError, path: Path) -> None:
    code = error.code
    what = f"{code} {http.client.responses.get(code, '')}".strip()
    if code == 416:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        raise RangeRefused(count_of(total))
    if code in _PASSING:
        wait = _retry_after(error.headers.get("Retry-After"))
        busy = "takes no more requests for now" if code == 429 else "has trouble"
        reason = f"{urlsplit(address.url).hostname} {busy}, {what}"
        if wait is not None and wait > LONGEST_WAIT:
            raise CheckpointError(f"{address.text}: {reason}: try again in {wait:.0f} seconds, {by_hand(path)}")
        raise Interrupted(reason, wait, answered=True)
    if code in (401, 403):
        raise CheckpointError(
            f"{address.text} is not open to everybody ({what}): log in with a browser where it is shared with you, "
            f"download it there and put it at {path}"
        )
    if code == 407:
        raise CheckpointError(f"the proxy wants a password ({what}): set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT")
    if code == 410:
        raise CheckpointError(f"{address.text} is gone for good ({what}): look for it elsewhere and put it at {path}")
    if code == 404:
        raise CheckpointError(f"there is no file at {address.text} ({what}): check the address, {by_hand(path)}")
    if 300 <= code < 400:
        raise CheckpointError(f"{address.text} is redirected in circles or to nowhere ({what}): check the address")
    raise CheckpointError(f"{address.text} answered {what}: check the address, {by_hand(path)}")


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait according to the server, given as a number or as a date."""
    if text is None:
        return None
    if (seconds := count_of(text.strip())) is not None:
        return float(seconds)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def count_of(text: str | None) -> int | None:
    """Number in a header, at most 10^18; None for anything else."""
    if text is None or not re.fullmatch(r"[0-9]+", text):
        return None
    return int(text) if len(text) <= 18 else 10**18


def _user_agent() -> str:
    try:
        return f"robust-transfer/{version('robust-transfer')}"
    except PackageNotFoundError:
        return "robust-transfer"


class _Deadline:
    """Mixin of connections: a response's header is there within :data:`HEADER_SECONDS`, however slowly it drips."""

    sock: socket.socket | None

    def getresponse(self) -> http.client.HTTPResponse:
        """Response; the socket is shut down where its header takes too long."""
        held, late = self.sock, threading.Event()

        def end() -> None:
            late.set()
            with suppress(OSError):  # it is closed already
                if held is not None:
                    held.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(HEADER_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            answer: http.client.HTTPResponse = super().getresponse()  # type: ignore[misc]
        finally:
            timer.cancel()
        if late.is_set():  # what has come of the header looks whole
            answer.close()
            raise TimeoutError
        return answer


class _HttpConnection(_Deadline, http.client.HTTPConnection):
    pass


class _HttpsConnection(_Deadline, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects between web addresses, never from https to http."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https"):
            raise CheckpointError(f"{self.address.text} is redirected to {newurl[:100]}, which is no web address")
        if urlsplit(req.full_url).scheme == "https" and scheme == "http":
            raise CheckpointError(
                f"{self.address.text} is redirected to {newurl[:100]}, where anybody on the way could change it: "
                f"get the file yourself and give its path"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
