"""Optional extras of the installation: installed or not, and what each adds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "robust-transfer"
# Extras for users; those for developers (dev, bench ...) are not listed.
ADDS = {
    "autoattack": "the reference implementation of AutoAttack, as an attack",
    "corruptions": "evaluate --corruptions",
    "clip": "visual towers of CLIP as sources",
    "export": "ONNX files, and their check by onnxruntime",
    "lora": "low-rank updates, as a strategy",
    "ray": "studies on a Ray cluster",
    "tensorboard": "--track tensorboard",
    "wandb": "--track wandb",
    "mlflow": "--track mlflow",
    "trackio": "--track trackio",
}


@dataclass(frozen=True)
class Extra:
    """Extra called ``name``; ``missing`` are its packages that are not installed."""

    name: str
    adds: str
    missing: tuple[str, ...]


def extras() -> list[Extra]:
    """All extras for users."""
    wanted: dict[str, list[str]] = {name: [] for name in ADDS}
    for text in metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        for name in ADDS:
            if requirement.marker is not None and requirement.marker.evaluate({"extra": name}):
                wanted[name].append(requirement.name)
    return [
        Extra(name, ADDS[name], tuple(each for each in needs if not _there(each))) for name, needs in wanted.items()
    ]


def _there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
