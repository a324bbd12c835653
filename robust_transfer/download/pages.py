"""Web pages received in place of a file: recognised by their first bytes; Google Drive's contain a form for the file."""

from __future__ import annotations

import re
from contextlib import suppress
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

SNIFFED_BYTES = 2048  # bytes that tell a page, or a pointer of Git LFS
MAX_PAGE_BYTES = 2**20  # bytes of a page that are read
_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S
)
_POINTER = b"version https://git-lfs.github.com/spec/"


def is_page(start: bytes) -> bool:
    """True if these first bytes are a web page's."""
    return _PAGE.match(start) is not None


def is_pointer(start: bytes) -> bool:
    """True if these first bytes are a Git LFS pointer's."""
    return start.startswith(_POINTER)


class Page(HTMLParser):
    """Title of a page, Google Drive's message on it, and the target of its form ``download-form``."""

    def __init__(self, content: bytes, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.url, self.method = url, "get"
        self.action: str | None = None
        self.fields: list[tuple[str, str]] = []
        self.texts: dict[str, str] = {}
        self._inside, self._form = "", False
        with suppress(AssertionError):  # its parser's word for some pages that are none
            self.feed(content.decode("utf-8", "replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a title, one of Google's captions or the form, or record a field of it."""
        found = {key: value or "" for key, value in attrs}
        if tag == "title":
            self._inside = "title"
        elif "uc-error-subcaption" in found.get("class", "").split():
            self._inside = "reason"
        elif tag == "form" and found.get("id") == "download-form":
            self._form, self.action, self.method = True, found.get("action", ""), found.get("method", "get").lower()
        elif tag == "input" and self._form and found.get("type") == "hidden" and found.get("name"):
            self.fields.append((found["name"], found.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        """End the current element."""
        self._inside = ""
        self._form = self._form and tag != "form"

    def handle_data(self, data: str) -> None:
        """Collect the text of a title or caption."""
        if self._inside:
            self.texts[self._inside] = self.texts.get(self._inside, "") + data

    @property
    def says(self) -> str:
        """Message of the page, a clause: Google Drive's reason, else the title, else "a web page"."""
        text = self.texts.get("reason") or self.texts.get("title") or ""
        short = " ".join(text.split())[:120].rstrip(". ")
        return f"a web page that says {short!r}" if short else "a web page"

    @property
    def leads_to(self) -> str | None:
        """Address requested by the form: on the page's own host or Google's, by GET; None otherwise."""
        if self.action is None or self.method != "get" or not self.fields:
            return None
        parts, own = urlsplit(urljoin(self.url, self.action)), urlsplit(self.url)
        googles = parts.scheme == "https" and (parts.hostname or "").endswith((".google.com", ".googleusercontent.com"))
        if not googles and (parts.scheme, parts.netloc) != (own.scheme, own.netloc):
            return None
        query = dict(parse_qsl(parts.query)) | dict(self.fields)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


def hint(url: str) -> str:
    """Advice about a page at ``url``, a clause."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "github.com" and "/blob/" in parts.path:
        return "give the address of its Download button, with /raw/ for /blob/"
    if host in ("huggingface.co", "hf.co"):
        return "write hf:OWNER/REPO/FILE, or the address with /resolve/ for /blob/"
    if host.endswith("dropbox.com"):
        return "end the address in dl=1"
    return "open it in a browser, and give the address of the file itself"
