"""Description of a data set: as JSON, and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_transfer.config import as_dict
from robust_transfer.data.formats.base import listed
from robust_transfer.data.survey.copies import CopyReport

SHOWN = 12  # classes that a line lists, the largest first; beyond, as many of the smallest
KINDS = 4


@dataclass(frozen=True)
class Sides:
    """Minimum, median and maximum width or height, in pixels."""

    least: int
    median: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}, median {self.median}"


@dataclass(frozen=True)
class Odd:
    """Unusual images: their number, and some of their names."""

    count: int
    examples: list[str]


@dataclass(frozen=True)
class SplitDescription:
    """Stored split: ``images`` in it, of which ``looked_at`` were opened; the number of images of each class.

    ``imbalance``: the largest class over the smallest that has any. ``sizes``: how many have each size, ``"32x32"``, the
    most frequent first. ``modes`` and ``kinds``: the same of Pillow's modes (RGB, L ...) and formats (PNG, ...; ``array``).
    """

    images: int
    looked_at: int
    classes: dict[str, int]
    imbalance: float
    width: Sides | None
    height: Sides | None
    sizes: dict[str, int]
    modes: dict[str, int]
    kinds: dict[str, int]
    copies: CopyReport
    suspicious: dict[str, Odd]


@dataclass(frozen=True)
class Between:
    """Images of split ``one`` that have copies in ``other``."""

    one: str
    other: str
    copies: CopyReport


@dataclass(frozen=True)
class DataDescription:
    """Description of a data set. ``problems``: reasons, in its words, for which :func:`load_task` would refuse it."""

    name: str
    splits: dict[str, SplitDescription]
    between: list[Between]
    notes: list[str]
    problems: list[str]

    @property
    def sampled(self) -> bool:
        """True if only a sample of the images was read."""
        return any(split.looked_at < split.images for split in self.splits.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain: dict[str, Any] = as_dict(self)
        return {**plain, "sampled": self.sampled}

    def __str__(self) -> str:
        lines = [f"data         {self.name}"]
        for role, split in self.splits.items():
            lines += _of_split(role, split)
        for pair in self.between:
            if pair.copies.found:
                lines.append(f"leak         {_copied(pair.copies, f'images of {pair.one} are in {pair.other}, too')}")
                lines += _conflicts(pair.copies, f"{pair.one} and {pair.other}")
        if self.sampled:
            lines.append("sampled      copies are those among the images looked at: there may be more (--examples)")
        lines += [f"note         {note}" for note in self.notes]
        lines += [f"problem      {problem}" for problem in self.problems]
        return "\n".join(lines)


def _of_split(role: str, split: SplitDescription) -> list[str]:
    looked = "" if split.looked_at == split.images else f", {split.looked_at} of them looked at (a stratified sample)"
    lines = [f"{role:<12} {split.images} images{looked}", f"  classes    {_classes(split)}"]
    if split.width is not None and split.height is not None:
        lines.append(f"  sizes      {_sizes(split)}")
        counted = "; ".join(_counted(some) for some in (split.modes, split.kinds))
        lines.append(f"  files      {counted}")
    if split.copies.found:
        lines.append(f"  copies     {_copied(split.copies, 'images are copies of others')}")
        lines += _conflicts(split.copies, role)
    lines += [
        f"  {what:<10} {odd.count} images (such as {'; '.join(odd.examples)})" for what, odd in split.suspicious.items()
    ]
    return lines


def _classes(split: SplitDescription) -> str:
    counts = sorted(split.classes.items(), key=lambda each: (-each[1], each[0]))
    few = len(counts) <= 2 * SHOWN
    shown = counts if few else [*counts[:SHOWN], ("...", 0), *counts[-SHOWN:]]
    told = ", ".join(name if name == "..." else f"{name} {count}" for name, count in shown)
    ratio = f" (largest {split.imbalance:.3g} times the smallest)" if split.imbalance > 1 else " (as many of each)"
    return f"{len(counts)}{ratio}: {told}"


def _sizes(split: SplitDescription) -> str:
    some = list(split.sizes.items())
    if len(some) == 1:
        return f"all {some[0][0]} pixels"
    often = ", ".join(f"{size} ({count})" for size, count in some[:KINDS])
    return f"width {split.width}, height {split.height}; {len(some)} sizes, most often {often}"


def _counted(some: dict[str, int]) -> str:
    return listed([f"{what} {count}" for what, count in some.items()], show=str)


def _copied(copies: CopyReport, what: str) -> str:
    how = [f"{copies.exact} exactly"] if copies.exact else []
    how += [f"{copies.near} by their look"] if copies.near else []
    return f"{copies.exact + copies.near} {what}: {', '.join(how)} (such as {'; '.join(copies.examples)})"


def _conflicts(copies: CopyReport, where: str) -> list[str]:
    if not copies.conflicts:
        return []
    shown = "; ".join(copies.conflict_examples)
    return [f"  conflict   {copies.conflicts} pairs of copies in {where} have two labels (such as {shown})"]
