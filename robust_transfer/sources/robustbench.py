"""Networks of RobustBench's zoo: their files, with what the zoo's code says of them and no file does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robust_transfer.errors import CheckpointError
from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.foreign import ForeignKind, Got

if TYPE_CHECKING:
    from robust_transfer.foreign.importing import Hints
    from robust_transfer.foreign.zoos import Entry
    from robust_transfer.preprocessing import Normalisation

PREFIX = "robustbench:"
MEASURED = "what RobustBench measured it under; its paper says what it was trained against"


@SOURCES.register(
    "robustbench:DATASET/THREAT/NAME", summary="a network of RobustBench's zoo (Croce et al. 2021)", paper=""
)
class FromRobustBench(ForeignKind):
    """``robustbench:cifar10/Linf/Carmon2019Unlabeled`` and the like."""

    def takes(self, name: str) -> bool:
        """See :class:`SourceKind`."""
        return name.startswith(PREFIX)

    def get(self, name: str) -> Got:
        """See :class:`ForeignKind`."""
        from robust_transfer.download import fetch

        entry = _entry(name)
        if len(entry.addresses) != 1:
            raise CheckpointError(_why_not(entry))
        got = fetch(entry.addresses[0], sha256=entry.sha256)
        return Got(got.path, name, got.sha256, got.revision or "")

    def known(self, name: str) -> Hints:
        """See :class:`ForeignKind`."""
        from robust_transfer.foreign.importing import Hints
        from robust_transfer.threat import Threat

        entry = _entry(name)
        return Hints(
            settings=_settings(entry) or None,
            normalisation=_normalisation(entry),
            weights=entry.member,
            threat=None if entry.threat is None else Threat.parse(entry.threat),
            threat_from=None if entry.threat is None else MEASURED,
        )

    def listed(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        return {f"{PREFIX}DATASET/THREAT/NAME": "RobustBench's zoo; `list sources` has all, with figures as published"}

    def zoo(self) -> dict[str, str]:
        """See :class:`SourceKind`."""
        from robust_transfer.foreign.zoos import entries

        return {entry.source: _line(entry) for entry in entries("robustbench") if len(entry.addresses) == 1}

    def suggestions(self, name: str) -> list[str]:
        """See :class:`SourceKind`."""
        from robust_transfer.foreign.zoos import entries

        return [entry.source for entry in entries("robustbench")] if name.startswith(PREFIX) else []


def _entry(name: str) -> Entry:
    from robust_transfer.foreign.zoos import find

    return find(name)


def _why_not(entry: Entry) -> str:
    if len(entry.addresses) > 1:
        return f"{entry.source} is an ensemble of {len(entry.addresses)} networks: give one of {', '.join(entry.addresses)}"
    return f"{entry.source} cannot be downloaded by itself: get its file from {entry.page or entry.link}, and give its path"


def _line(entry: Entry) -> str:
    figures = [
        f"{what} {value:.1f} %"
        for what, value in (("clean", entry.clean), ("robust", entry.robust))
        if value is not None
    ]
    return ", ".join([entry.architecture, *([f"threat {entry.threat}"] if entry.threat else []), *figures])


def _settings(entry: Entry) -> dict[str, Any]:
    """What the zoo's classes fix and no file tells: activation, padding, what shortcuts read."""
    activation = {"activation": entry.settings.get("activation", "relu")}
    if entry.architecture in ("DMWideResNet", "DMPreActResNet"):
        return {**activation, "padding": "asymmetric"}
    if entry.architecture == "PreActResNet":
        bare = entry.settings.get("block") == "PreActBlock" and not entry.settings.get("out_shortcut")
        return {**activation, "shortcut": "input" if bare else "activated"}
    return activation if entry.architecture in ("WideResNet", "ResNet", "ResNet18") else {}


def _normalisation(entry: Entry) -> Normalisation | None:
    from robust_transfer.foreign.families.normalisations import PER_IMAGE, RAW
    from robust_transfer.preprocessing import Normalisation

    if entry.normalisation == "stated":
        return Normalisation(mean=entry.mean, std=entry.std)
    return {"none": RAW, "per image": PER_IMAGE}.get(entry.normalisation)
