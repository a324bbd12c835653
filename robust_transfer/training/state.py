"""Resume state: everything that the rest of training depends on, in one safetensors file (tensors, and JSON as metadata)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from robust_transfer.checkpoint import not_the_same
from robust_transfer.config import difference
from robust_transfer.errors import CheckpointError
from robust_transfer.files import TEMPORARY, write_bytes

FILE = "state/state.safetensors"


@dataclass
class Progress:
    """Position of training. ``step`` counts finished steps; ``rate_scale`` is halved by each divergence.

    ``one_class`` counts successive batches predicted as one class, ``several`` is True if any was not; ``last`` are
    the latest figures on val; ``logged`` is the length of the log in bytes; ``scores`` are those on val so far that an
    automatic rate follows. Fields missing in an older state have their defaults.
    """

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
    best_figures: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    one_class: int = 0
    several: bool = False
    last: dict[str, float] = field(default_factory=dict)
    validation_passes: float = 0.0
    validation_examples: int = 0
    logged: int | None = None
    scores: list[float] = field(default_factory=list)

    def spent_by(self, later: Progress) -> Progress:
        """Same progress, with the cost and reactions of a ``later`` one whose steps are undone."""
        kept = ("events", "divergences", "reactions", "rate_scale", "images", "passes", "seconds")
        also = ("validation_passes", "validation_examples")
        return replace(self, one_class=0, **{name: getattr(later, name) for name in (*kept, *also)})


def collect(
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
    best: dict[str, Tensor] | None,
    device: torch.device,
) -> dict[str, Tensor]:
    """Copies of all relevant tensors, under flat names; the generators of CPU and ``device`` included.

    One process's generators stand for all processes': their shares of a batch are of one size, so all draw alike.
    """
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
    if device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(device)
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}


def restore(
    tensors: dict[str, Tensor],
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    averaged: nn.Module | None,
    device: torch.device,
) -> dict[str, Tensor] | None:
    """Load the result of :func:`collect`; returns the best weights so far, if there are any."""
    objective.load_state_dict(_under(tensors, "objective."), strict=True)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    if averaged is not None:
        averaged.load_state_dict(_under(tensors, "averaged."), strict=True)
    torch.set_rng_state(tensors["generator.cpu"])
    if device.type == "cuda" and "generator.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["generator.cuda"], device)
    return _under(tensors, "best.") or None


def finite(objective: nn.Module, optimizer: torch.optim.Optimizer, averaged: nn.Module | None) -> bool:
    """True if every weight, statistic and moment is finite: only such a state may be restored."""
    tensors = [*objective.state_dict().values(), *(averaged.state_dict().values() if averaged is not None else ())]
    for values in optimizer.state_dict()["state"].values():
        tensors += [value for value in values.values() if isinstance(value, Tensor)]
    checks = [t.isfinite().all().to(torch.int32).cpu() for t in tensors if t.is_floating_point()]
    return bool(torch.stack(checks).all()) if checks else True


def save(folder: Path, tensors: dict[str, Tensor], progress: Progress, fingerprint: dict[str, Any]) -> None:
    """Write the state atomically: a kill at any moment leaves the previous state or this one."""
    metadata = {"progress": json.dumps(asdict(progress)), "fingerprint": json.dumps(fingerprint, sort_keys=True)}
    write_bytes(folder / FILE, to_bytes(tensors, metadata))


def load(folder: Path, fingerprint: dict[str, Any]) -> tuple[dict[str, Tensor], Progress] | None:
    """State in ``folder``, or None if there is none yet.

    A state of other settings is refused by :class:`CheckpointError`, naming the setting; a key that the state does not
    know (an older version wrote it) is not compared.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = path.read_bytes()
        tensors = from_bytes(content)
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]  # of every safetensors file, after its length
        metadata = json.loads(header).get("__metadata__", {})
        saved, progress = json.loads(metadata["fingerprint"]), Progress(**json.loads(metadata["progress"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the resume state {path} cannot be read ({error}): start again with --overwrite"
        ) from None
    wanted = json.loads(json.dumps(fingerprint))
    if found := difference(saved, {key: value for key, value in wanted.items() if key in saved}):
        raise CheckpointError(not_the_same(folder, *found))
    return tensors, progress


def discard(folder: Path) -> None:
    """Remove the resume state of a finished run, and leftovers of interrupted writes."""
    path = folder / FILE
    if not path.parent.is_dir():
        return
    for entry in path.parent.iterdir():
        if entry == path or TEMPORARY.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
    if not any(path.parent.iterdir()):
        path.parent.rmdir()


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
