"""Addresses of files, and the cache file of each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urldefrag, urlsplit

from robust_transfer.errors import ConfigError

DRIVE = "https://drive.usercontent.google.com/download"
_DRIVE_HOSTS = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_DRIVE_ID = re.compile(r"[\w-]{10,}", re.ASCII)
_STATED = re.compile(r"-([0-9a-f]{8,64})\.")  # torch.hub's convention: resnet50-11ad3fa6.pth
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])")
_ENDING = re.compile(r"(\.(pth|pt|ckpt)\.tar|\.tar\.\w{2,3}|\.[A-Za-z][A-Za-z0-9]{0,10})?$")


@dataclass(frozen=True)
class Address:
    """Address of one file.

    ``text``: the form on a card. ``url``: the URL to request. ``name``: the file name in the cache folder.
    ``stated``: the beginning of its sha256 if its name states it, as torch.hub's names do. ``drive``: True on Google
    Drive.
    """

    text: str
    url: str
    name: str
    stated: str | None = None
    drive: bool = False


def read_address(text: str) -> Address:
    """Parse ``https://...``, ``http://...`` or ``gdrive:ID``. Links to a file on Google Drive are reduced to its ID.

    The name in the cache folder depends on the address alone. Two files called ``best.pt`` do not meet: all names but
    those that state their sha256 get ten digits of the address's own. Raises :class:`ConfigError`.
    """
    if text.startswith("gdrive:"):
        return _on_drive(text.removeprefix("gdrive:"), text)
    try:
        plain = quote(urldefrag(text.strip()).url, safe="%/:=&?~+!$,;'@()*[]")  # bytes that are no text have no address
        parts = urlsplit(plain)
        host, _ = parts.hostname, parts.port  # raises ValueError for a port that is not a number
    except ValueError as error:
        raise ConfigError(f"{text!r} is no address of a file: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{text!r} is no address of a file: write https://HOST/FILE")
    if "@" in parts.netloc:
        raise ConfigError(
            f"the address on {host} holds a password or a user's name, which would stand on every card: "
            f"download the file yourself and give its path"
        )
    if host in _DRIVE_HOSTS and (drive := _drive_id(parts.path, parse_qs(parts.query), text)) is not None:
        return _on_drive(drive, text)
    name = _safe(unquote(parts.path.rsplit("/", 1)[-1])) or "download"
    stated = stated_sha256(name)
    return Address(plain, plain, name if stated else _with_digits(name, plain), stated)


def stated_sha256(name: str) -> str | None:
    """Beginning of the sha256 stated in a file's name (``resnet50-11ad3fa6.pth``); dates such as ``-20210831`` do not count."""
    found = [digits for digits in _STATED.findall(name) if not _DATE.fullmatch(digits)]
    return found[-1] if found else None


def safe_name(name: str | None) -> str | None:
    """File name suggested by a server, without folders, control characters and leading dots; None if nothing is left."""
    return _safe(re.split(r"[/\\]", name)[-1]) or None if name else None


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+=,-]+", "_", name.strip(), flags=re.ASCII).lstrip("._-")[-100:]


def _with_digits(name: str, address: str) -> str:
    ending = _ENDING.search(name)
    cut = ending.start() if ending is not None else len(name)
    return f"{name[:cut]}_at_{hashlib.sha256(address.encode()).hexdigest()[:10]}{name[cut:]}"


def _on_drive(drive: str, text: str) -> Address:
    if not _DRIVE_ID.fullmatch(drive):
        raise ConfigError(f"{text!r} names no file on Google Drive: write gdrive:ID, the letters after /d/ in its link")
    return Address(f"gdrive:{drive}", f"{DRIVE}?id={drive}&export=download&confirm=t", f"gdrive_{drive}", drive=True)


def _drive_id(path: str, query: dict[str, list[str]], text: str) -> str | None:
    if "/folders/" in path:
        raise ConfigError(f"{text!r} is a folder on Google Drive: give the link of one file in it")
    within = re.search(r"/d/([\w-]+)", path)
    return within[1] if within else query.get("id", [None])[0]
