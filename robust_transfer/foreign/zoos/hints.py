"""Hints for the importer from a zoo's table: settings that no file contains."""

from __future__ import annotations

from typing import Any

from robust_transfer.foreign.families.normalisations import PER_IMAGE, RAW
from robust_transfer.foreign.hints import Hints
from robust_transfer.foreign.zoos.tables import Entry
from robust_transfer.preprocessing import Normalisation
from robust_transfer.threat import Threat

MEASURED = "what {zoo} measured it under; its paper says what it was trained against"
ZOOS = {"robustbench": "RobustBench", "madrylab": "MadryLab", "ares": "ARES 2.0", "singh": "Singh et al. 2023"}


def hints(entry: Entry) -> Hints:
    """Settings, normalisation, threat and position in the file of a network of a zoo."""
    zoo = ZOOS.get(entry.zoo, entry.zoo)
    return Hints(
        settings=_settings(entry) or None,
        normalisation=_normalisation(entry),
        weights=entry.member,
        threat=None if entry.threat is None else Threat.parse(entry.threat),
        threat_from=None if entry.threat is None else MEASURED.format(zoo=zoo),
    )


def published(entry: Entry) -> dict[str, Any]:
    """Zoo's entry on a card: the network's name there, and its published accuracies, in percent."""
    named = (("clean", entry.clean), ("robust", entry.robust))
    figures = {what: value for what, value in named if value is not None}
    zoo = ZOOS.get(entry.zoo, entry.zoo)
    return {"published": f"as {zoo} has it: {entry.name}", "published_accuracy": figures}


def _settings(entry: Entry) -> dict[str, Any]:
    """Settings that are fixed by the zoo's classes and not in the file: activation, padding, input of shortcuts."""
    activation = {"activation": entry.settings.get("activation", "relu")}
    if entry.architecture in ("DMWideResNet", "DMPreActResNet"):
        return {**activation, "padding": "asymmetric"}
    if entry.architecture == "PreActResNet":
        bare = entry.settings.get("block") == "PreActBlock" and not entry.settings.get("out_shortcut")
        return {**activation, "shortcut": "input" if bare else "activated"}
    if entry.architecture.startswith(
        ("timm:resnet", "timm:wide_resnet", "torchvision:resnet", "torchvision:wide_resnet")
    ):
        return {"act_layer": activation["activation"]}
    return activation if entry.architecture in ("WideResNet", "ResNet", "ResNet18") else {}


def _normalisation(entry: Entry) -> Normalisation | None:
    if entry.normalisation == "stated":
        return Normalisation(mean=entry.mean, std=entry.std)
    return {"none": RAW, "per image": PER_IMAGE}.get(entry.normalisation)
