"""Base of the data formats, their registry, and the common result of all readers: stored splits with encoded images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
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
    """Columns of a table that hold the images and the labels; None: to be inferred."""

    image: str | None = None
    label: str | None = None

    def refuse(self, what: str) -> None:
        """Raise DataError for column names given for ``what``, which has no columns."""
        if self.image is not None or self.label is not None:
            raise DataError(f"{what} has no columns: leave image_column and label_column out")


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
