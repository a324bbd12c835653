"""Names of splits: the fixed list by which folders and files are recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass

from robust_transfer.data.formats.base import Role

# Each word, alone or with one of the endings ("train_images", "training-set"), or after "seg" (Intel's seg_train), or
# followed by a year (COCO's train2017). Upper case and "-", "." or " " in place of "_" make no difference.
WORDS: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
ENDINGS = ("set", "images", "image", "imgs", "img", "data", "split")

SPLIT_NAMES: dict[str, Role] = {
    name: role
    for role, words in WORDS.items()
    for word in words
    for name in (word, f"seg_{word}", *(f"{word}{glue}{end}" for end in ENDINGS for glue in ("_", "")))
}
_YEAR = re.compile(r"(train|val|test)_?(?:19|20)\d\d")
# Names of the domains of public sets (PACS, Office-Home, Office-31, DomainNet, VLCS): folders above the classes.
DOMAINS = {
    "art_painting", "cartoon", "photo", "sketch", "art", "clipart", "product", "real_world", "amazon", "dslr", "webcam",
    "caltech", "caltech101", "labelme", "sun09", "voc2007", "infograph", "painting", "quickdraw", "real",
}  # fmt: skip

# Words of the names of parts that are none of the three splits: folders that are all called so are no classes.
PARTS = {
    "eval", "evaluation", "extra", "fold", "folds", "gallery", "holdout", "pred", "query", "trn", "tst",
    "unlabeled", "unlabelled",
}  # fmt: skip


def folded(name: str) -> str:
    """Name in the spelling of :data:`SPLIT_NAMES`."""
    return re.sub(r"[-. _]+", "_", name.strip()).casefold()


def role_of(name: str) -> Role | None:
    """Split that a whole name stands for, or None: "train_images" is train, "train_mini" is none."""
    name = folded(name)
    if matched := _YEAR.fullmatch(name):
        name = matched[1]
    return SPLIT_NAMES.get(name)


def speaks_of_a_split(name: str) -> bool:
    """True if a word of a name is a split's ("test_corrupted", "pre-train", "trainA"), whatever the whole name."""
    return any(word in SPLIT_NAMES for word in _words(name))


def speaks_of_a_part(name: str) -> bool:
    """True if a name suggests a part of a data set: a split, a word of :data:`PARTS`, or an ending."""
    return speaks_of_a_split(name) or any(word in PARTS or word in ENDINGS for word in _words(name))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold())


@dataclass(frozen=True)
class FileName:
    """Parts of a data file's name: ``pets-train-00001-of-00003`` is ("pets", "train", 1, 3).

    ``index`` and ``total`` are None without a number; ``total`` is None for a number without a total.
    """

    prefix: str
    role: Role
    index: int | None = None
    total: int | None = None


_SHARD = re.compile(r"(?P<rest>.+?)[-_.]?(?P<index>\d+)(?:[-_]of[-_](?P<total>\d+)(?:-[0-9a-f]{8,})?)?")


def file_name(stem: str) -> FileName | None:
    """Parts of a file's name (without its extension), or None without a split.

    The split's name is the whole, or its end after "-", "_" or "."; a number may follow, alone or "-of-" another.
    """
    whole = _named(stem, None, None)
    if whole is not None or (matched := _SHARD.fullmatch(stem)) is None:
        return whole
    total = int(matched["total"]) if matched["total"] else None
    return _named(matched["rest"], int(matched["index"]), total)


def _named(stem: str, index: int | None, total: int | None) -> FileName | None:
    for cut in [0, *(m.end() for m in re.finditer(r"[-_.]", stem))]:  # the longest name first
        role = role_of(stem[cut:])
        if role is not None:
            return FileName(stem[: max(cut - 1, 0)], role, index, total)
    return None
