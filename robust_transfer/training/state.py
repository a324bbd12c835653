"""Resume state: everything that training's future depends on, in one safetensors file (tensors, and JSON as metadata)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from robust_transfer.errors import CheckpointError
from robust_transfer.run import write_atomically

FILE = "state/state.safetensors"


@dataclass
class Progress:
    """Where training is. ``step`` counts finished steps; ``rate_scale`` is halved by each divergence."""

    step: int = 0
    rate_scale: float = 1.0
    divergences: int = 0
    reactions: int = 0
    images: int = 0
    passes: float = 0.0
    seconds: float = 0.0
    first_loss: float | None = None
    best: float | None = None
    best_epoch: int | None = None
    events: list[str] = field(default_factory=list)


def collect(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
    best: dict[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Copies of all tensors that matter, under flat names; generators included."""
    tensors = {f"objective.{k}": v for k, v in objective.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    if averaged is not None:
        tensors |= {f"averaged.{k}": v for k, v in averaged.state_dict().items()}
    if best is not None:
        tensors |= {f"best.{k}": v for k, v in best.items()}
    tensors["generator.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator.cuda"] = torch.cuda.get_rng_state()
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}


def restore(
    tensors: dict[str, Tensor],
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
) -> dict[str, Tensor] | None:
    """Load what :func:`collect` took; returns the best weights so far, if there are any."""
    objective.load_state_dict(_under(tensors, "objective."), strict=True)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if averaged is not None:
        averaged.load_state_dict(_under(tensors, "averaged."), strict=True)
    torch.set_rng_state(tensors["generator.cpu"])
    if torch.cuda.is_available() and "generator.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator.cuda"])
    return _under(tensors, "best.") or None


def save(folder: Path, tensors: dict[str, Tensor], progress: Progress, fingerprint: dict[str, Any]) -> None:
    """Write the state atomically: a kill at any moment leaves the previous state or this one."""
    metadata = {"progress": json.dumps(vars(progress)), "fingerprint": json.dumps(fingerprint, sort_keys=True)}
    write_atomically(folder / FILE, lambda path: save_file(tensors, str(path), metadata))


def load(folder: Path, fingerprint: dict[str, Any]) -> tuple[dict[str, Tensor], Progress] | None:
    """The state in ``folder``, or None if there is none yet. A state of other settings is refused, naming the setting."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"the resume state {path} cannot be read ({error}): start again with --overwrite") from None
    saved = json.loads(metadata["fingerprint"])
    wanted = json.loads(json.dumps(fingerprint))
    for key in sorted({*saved, *wanted}):
        if saved.get(key) != wanted.get(key):
            raise CheckpointError(
                f"cannot resume: {key} was {saved.get(key)!r} and is now {wanted.get(key)!r}; "
                "give the settings of the interrupted run, or --overwrite"
            )
    return tensors, Progress(**json.loads(metadata["progress"]))


def discard(folder: Path) -> None:
    """Remove the resume state of a finished run."""
    path = folder / FILE
    path.unlink(missing_ok=True)
    if path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
