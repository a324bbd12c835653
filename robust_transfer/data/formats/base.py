"""Base of the data formats, their registry, and the common result of all readers: stored splits with encoded images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from robust_transfer.data.encoded import Images
from robust_transfer.data.split import Role as Role  # readers import it from here
from robust_transfer.errors import DataError
from robust_transfer.registry import Registry

WRITTEN: dict[Role, str] = {"train": "train", "val": "validation", "test": "test"}  # as messages and HF call them


def first_role(roles: Container[Role]) -> Role:
    """Split that defines the classes: train, or the evaluated split if there is none."""
    return "train" if "train" in roles else "test" if "test" in roles else "val"


@dataclass(frozen=True)
class ColumnNames:
    """Columns of a table that hold the images, the labels and the splits; None: to be found."""

    image: str | None = None
    label: str | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        given = self._given()
        for (one, name), (other, again) in combinations(given.items(), 2):
            if name == again:
                raise DataError(f"{one} and {other} are both {name!r}: give each a column of its own")

    def refuse(self, what: str) -> None:
        """Raise DataError where columns are named for ``what``, which has none."""
        if given := self._given():
            raise DataError(f"{what} has no columns: leave {' and '.join(given)} out")

    def _given(self) -> dict[str, str]:
        return {f"{each.name}_column": name for each in fields(self) if (name := getattr(self, each.name)) is not None}


@dataclass(frozen=True)
class StoredSplit:
    """Images, their labels (int64 ``(n,)``) and the names of the classes, in label order."""

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class StoredDataset:
    """Data set as stored. Without a test split, ``test_fraction`` of train becomes test.

    ``notes`` are sentences on assumptions and omissions.
    """

    name: str
    splits: Mapping[Role, StoredSplit]
    notes: tuple[str, ...] = field(default=())
    test_fraction: float = 0.2


class Format(ABC):
    """Base of the data formats. A format takes names that begin with its ``prefix``, or paths that it recognises.

    A format of its own is one file: a subclass, registered with :data:`FORMATS` under the spelling that users type.
    """

    prefix: ClassVar[str | None] = None

    def recognises(self, path: Path) -> bool:
        """True if the file or folder at ``path``, which exists, is of this format."""
        return False

    def names(self) -> list[str]:
        """Names that can be listed without disk or network access, as suggestions for misspelt ones."""
        return []

    @abstractmethod
    def read(self, where: str, columns: ColumnNames) -> StoredDataset:
        """Data set at ``where``: the part of a name behind its prefix, or a path. Raises :class:`DataError`."""


FORMATS: Registry[Format] = Registry("data format", group="robust_transfer.data")


def listed(names: Iterable[str], most: int = 6, show: Callable[[str], str] = repr) -> str:
    """``'a', 'b' and 3 more``."""
    quoted = [show(name) for name in names]
    shown = ", ".join(quoted[:most])
    return f"{shown} and {len(quoted) - most} more" if len(quoted) > most else shown
