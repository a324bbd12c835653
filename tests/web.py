"""Web server on this machine that sends files well and badly, and records its requests."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """What is sent: by default with a length, an entity tag if there is one, and parts where they are asked for.

    ``cut``: so many bytes of the body, then the connection is closed. ``ranges``: whether parts are sent.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = None
    cut: int | None = None
    ranges: bool = True
    length: int | None = None


Answer = Callable[[Asked], Reply]


class Site:
    """Answers, by path; each a reply, or a list of which one is taken after the other and the last ever after."""

    def __init__(self) -> None:
        self.pages: dict[str, Reply | list[Reply] | Answer] = {}
        self.asked: list[Asked] = []
        self.address = ""

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        page = self.pages.get(asked.path, Reply(b"no such file", 404))
        if isinstance(page, list):
            return page.pop(0) if len(page) > 1 else page[0]
        return page if isinstance(page, Reply) else page(asked)

    @property
    def ranges(self) -> list[str | None]:
        """The ``Range`` of each request."""
        return [asked.headers.get("range") for asked in self.asked]


@contextmanager
def serving() -> Iterator[Site]:
    """A site, until the block ends."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = site.reply(Asked(self.path, {key.lower(): value for key, value in self.headers.items()}, sent))
            body, status, headers = reply.body, reply.status, dict(reply.headers)
            if reply.etag:
                headers["ETag"] = reply.etag
            asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
            if (
                asked
                and reply.ranges
                and status == 200
                and condition in (None, reply.etag, headers.get("Last-Modified"))
            ):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    status, headers["Content-Range"], body = 416, f"bytes */{len(body)}", b""
                else:
                    status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
                    body = body[start:]
            self.send_response(status)
            if reply.length != -1:
                self.send_header("Content-Length", str(len(body) if reply.length is None else reply.length))
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: reply.cut])

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
