"""Networks of RobustBench's zoo: their files, with settings from the zoo's code that no file contains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from robust_transfer.errors import CheckpointError
from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import ForeignKind, Got

if TYPE_CHECKING:
    from robust_transfer.foreign.zoos import Entry

PREFIX = "robustbench:"


@SOURCES.register(
    "robustbench:DATASET/THREAT/NAME", summary="a network of RobustBench's zoo (Croce et al. 2021)", paper=""
)
class FromRobustBench(ForeignKind):
    """``robustbench:cifar10/Linf/Carmon2019Unlabeled`` and the like."""

    @override
    def takes(self, name: str) -> bool:
        return name.startswith(PREFIX)

    @override
    def get(self, name: str) -> Got:
        from robust_transfer.download import fetch

        entry = _entry(name)
        if len(entry.addresses) != 1:
            raise CheckpointError(_why_not(entry))
        got = fetch(entry.addresses[0], sha256=entry.sha256)
        return Got(got.path, name, got.sha256, got.revision or "")

    @override
    def entry(self, name: str, got: Got) -> Entry:
        return _entry(name)

    @override
    def listed(self) -> dict[str, str]:
        return {f"{PREFIX}DATASET/THREAT/NAME": "RobustBench's zoo; `list sources` has all, with figures as published"}

    @override
    def zoo(self) -> dict[str, str]:
        from robust_transfer.foreign.zoos import summaries

        return summaries(PREFIX)

    @override
    def suggestions(self, name: str) -> list[str]:
        from robust_transfer.foreign.zoos import entries

        return [entry.source for entry in entries("robustbench")] if name.startswith(PREFIX) else []


def _entry(name: str) -> Entry:
    from robust_transfer.foreign.zoos import find

    return find(name)


def _why_not(entry: Entry) -> str:
    if len(entry.addresses) > 1:
        return f"{entry.source} is an ensemble of {len(entry.addresses)} networks: give one of {', '.join(entry.addresses)}"
    return f"{entry.source} cannot be downloaded automatically: get its file from {entry.page or entry.link}, and give its path"
