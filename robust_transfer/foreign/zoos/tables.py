"""Tables of the zoos, one per zoo (``*.csv``), whose first line names the table's origin.

Nothing is downloaded, and PyTorch is not imported.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from robust_transfer.errors import UnknownNameError
from robust_transfer.registry import unknown

ZOOS = ("robustbench", "madrylab", "ares", "singh")
CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}
Setting = int | bool | str | tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One network of a zoo.

    ``name``: the zoo's, ``cifar10/Linf/Carmon2019Unlabeled`` in RobustBench. ``threat``: what ``robust`` was measured
    under, as in ``linf:8/255``, not always what it was trained against; None for networks that are not adversarially
    trained or were measured under common corruptions. ``clean``, ``robust``: accuracies in percent, as published
    (``robust``: under AutoAttack or what is known to be stronger; of the leaderboard ``corruptions``: under common
    corruptions; None where none was published).

    ``addresses``: for :func:`robust_transfer.download.fetch`; several are the members of an ensemble; none where the file
    is to be got by hand from ``page``, or is torchvision's. ``member``: the key of the file's dictionary that holds the
    weights, where the zoo's code names one.

    ``architecture``: the class of the zoo's code, ``timm:NAME`` or ``torchvision:NAME``, with ``settings``.
    ``normalisation``: ``stated`` (``mean`` and ``std``), ``none`` (the network reads pixels in [0, 1]), ``stored`` in the
    file, ``per image``, or ``unknown``. ``preprocessing``: RobustBench's name, ``Res256Crop224``.
    """

    zoo: str
    name: str
    data: str
    leaderboard: str
    threat: str | None
    addresses: tuple[str, ...]
    sha256: str | None
    architecture: str
    settings: dict[str, Setting] = field(hash=False)
    normalisation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: str | None
    member: str | None
    clean: float | None
    robust: float | None
    title: str
    venue: str
    link: str
    page: str | None

    @property
    def source(self) -> str:
        """Value for ``--source``: ``robustbench:DATASET/THREAT/NAME``, else the file's address (or its page)."""
        if self.zoo == "robustbench":
            return f"robustbench:{self.name}"
        return self.addresses[0] if self.addresses else self.page or ""

    @property
    def summary(self) -> str:
        """Summary line: network, threat, published accuracies."""
        named = (("clean", self.clean), ("robust", self.robust))
        figures = [f"{what} {value:.1f} %" for what, value in named if value is not None]
        return ", ".join([self.architecture, *([f"threat {self.threat}"] if self.threat else []), *figures])

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return CLASSES[self.data]


@cache
def entries(zoo: str | None = None) -> tuple[Entry, ...]:
    """Networks of a zoo, or (None) of all zoos, in the order of their tables."""
    if zoo is None:
        return tuple(entry for each in ZOOS for entry in entries(each))
    lines = _path(zoo).read_text(encoding="utf-8").splitlines()
    return tuple(_entry(zoo, row) for row in csv.DictReader(lines[1:]))


def read_from(zoo: str) -> str:
    """Origin and version of a zoo's table."""
    return _path(zoo).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# read from ")


def find(name: str) -> Entry:
    """Network of that name or source: ``cifar10/Linf/Carmon2019Unlabeled``, with or without ``robustbench:`` before it.

    Raises :class:`UnknownNameError` with the nearest names.
    """
    by_name = _by_name()
    if name in by_name:
        return by_name[name]
    known = [entry.name for entry in entries()]
    raise UnknownNameError(unknown("network of the zoos", name.removeprefix("robustbench:"), known))


def summaries(prefix: str) -> dict[str, str]:
    """Names of networks of one file whose source begins with ``prefix``, with a line on each."""
    return {
        entry.source: entry.summary
        for entry in entries()
        if len(entry.addresses) == 1 and entry.source.startswith(prefix)
    }


def known_file(address: str | None = None, sha256: str | None = None) -> Entry | None:
    """Network of a file, by its address or by its sha256; None for unknown files.

    An address on the Hugging Face Hub may be pinned to a commit.
    """
    plain = re.sub(r"^(hf:[^/@]+/[^/@]+)@[^/]+", r"\1", address) if address else None
    for entry in entries():
        if (plain is not None and entry.addresses == (plain,)) or (sha256 is not None and entry.sha256 == sha256):
            return entry
    return None


@cache
def _by_name() -> dict[str, Entry]:
    named = {entry.source: entry for entry in entries()}
    return named | {entry.name: entry for entry in entries()}


def _path(zoo: str) -> Path:
    return Path(__file__).parent / f"{zoo}.csv"


def _entry(zoo: str, row: dict[str, str]) -> Entry:
    threat = row["threat"] or None
    data, leaderboard = "imagenet", {"linf": "Linf", "l2": "L2"}.get(row["threat"].partition(":")[0], "")
    if zoo == "robustbench":
        data, leaderboard, _ = row["name"].split("/")
    said = row["normalisation"] or "unknown"
    mean, std = (tuple(map(float, each.split())) for each in said.split("/")) if "/" in said else ((), ())
    return Entry(
        zoo=zoo,
        name=row["name"],
        data=data,
        leaderboard=leaderboard,
        threat=threat,
        addresses=tuple(row["addresses"].split()),
        sha256=row["sha256"] or None,
        architecture=row["architecture"],
        settings=dict(_setting(each) for each in row["settings"].split()),
        normalisation="stated" if mean else said,
        mean=mean,
        std=std,
        preprocessing=row["preprocessing"] or None,
        member=row["member"] or None,
        clean=float(row["clean"]) if row["clean"] else None,
        robust=float(row["robust"]) if row["robust"] else None,
        title=row["title"],
        venue=row["venue"],
        link=row["link"],
        page=row["page"] or None,
    )


def _setting(text: str) -> tuple[str, Setting]:
    key, _, value = text.partition("=")
    if value in ("True", "False"):
        return key, value == "True"
    if re.fullmatch(r"[\d,]+", value):
        numbers = tuple(map(int, value.split(",")))
        return key, numbers if len(numbers) > 1 else numbers[0]
    return key, value
