"""Record of the step at which training failed: its batch, and the state before it, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from robust_transfer.checkpoint import not_the_same
from robust_transfer.config import difference
from robust_transfer.environment import environment
from robust_transfer.errors import CheckpointError, DivergedError
from robust_transfer.files import write_bytes
from robust_transfer.training.before import Before
from robust_transfer.training.objective import Batch
from robust_transfer.training.state import Progress, under
from robust_transfer.training.trouble import Trouble

FILE = "fault.safetensors"


@dataclass(frozen=True)
class Fault:
    """Step that failed: ``what`` happened, the hash of the ``bits`` in question, the layer ``first`` to show it (or empty).

    ``exact``: the step was taken in float32, whatever the run's precision; ``progress`` as in the resume state.
    ``versions`` and ``hardware``: the conditions under which the bits are to be the same.
    """

    what: str
    bits: str
    first: str
    rate: float
    exact: bool
    progress: dict[str, Any]
    versions: dict[str, str]
    hardware: dict[str, Any]

    @classmethod
    def of(cls, trouble: Trouble, first: str, rate: float, exact: bool, progress: Progress) -> Fault:
        """Fault of this machine."""
        made = environment()
        at = asdict(progress)
        return cls(trouble.what, trouble.bits, first, rate, exact, at, made["versions"], made["hardware"])

    def __str__(self) -> str:
        return self.what + (f", first {self.first}" if self.first else "")

    def compare(self, trouble: Trouble | None) -> NoReturn:
        """Raise :class:`DivergedError` if the step, repeated, failed alike, bit for bit, else :class:`CheckpointError`."""
        step = self.progress["step"]
        if trouble is not None and (trouble.what, trouble.bits) == (self.what, self.bits):
            raise DivergedError(f"step {step} again, at rate {self.rate:g}: {self}; the same as recorded, bit for bit")
        now = "all numbers are finite" if trouble is None else trouble.what
        now += ", of other bits" if trouble is not None and trouble.what == self.what else ""
        raise CheckpointError(
            f"step {step} again: {now}, and {self.what} was recorded: not reproduced; it was recorded with torch "
            f"{self.versions.get('torch')} on {self.hardware.get('gpu') or self.hardware.get('cpu')}: repeat it there"
        )


def save(folder: Path, fault: Fault, batch: Batch, before: Before, fingerprint: dict[str, Any]) -> None:
    """Write the fault, replacing an earlier one."""
    tensors = {f"before.{name}": values for name, values in before.kept.items()}
    tensors |= {f"generator.{name}": values for name, values in before.generators.items()}
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    tensors |= {f"batch.{name}": value for name, value in given.items() if isinstance(value, Tensor)}
    rest = {name: value for name, value in given.items() if value is not None and not isinstance(value, Tensor)}
    metadata = {
        name: json.dumps(value, sort_keys=True)
        for name, value in (("fault", asdict(fault)), ("batch", rest), ("fingerprint", fingerprint))
    }
    stored = {name: values.detach().to("cpu", copy=True).contiguous() for name, values in tensors.items()}
    write_bytes(folder / FILE, to_bytes(stored, metadata))


def load(folder: Path, fingerprint: dict[str, Any], device: torch.device) -> tuple[Fault, Batch, dict[str, Tensor]]:
    """Fault in ``folder``, its batch, and the tensors of the state before it, as ``save`` named them.

    Raises :class:`CheckpointError` for a file that cannot be read, or of other settings, of which it names the first.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
        tensors = from_bytes(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        fault, rest = Fault(**json.loads(header["fault"])), json.loads(header["batch"])
        rows: dict[str, Any] = {name: _laid_out(each, device) for name, each in under(tensors, "batch.").items()}
        batch = Batch(**rest, **rows)
        saved = json.loads(header["fingerprint"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the recorded step {path} cannot be read ({error}): train again") from None
    if found := difference(saved, json.loads(json.dumps(fingerprint))):
        raise CheckpointError(not_the_same(folder, *found))
    return fault, batch, tensors


def put_back(tensors: dict[str, Tensor], before: Before) -> None:
    """Restore weights, statistics, moments and generators of the step that :func:`load` returned."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, values in under(tensors, "before.optimizer.").items():
        number, _, key = name.partition(".")
        states.setdefault(int(number), {})[key] = values
    groups = before.optimizer.state_dict()["param_groups"]
    before.optimizer.load_state_dict({"state": states, "param_groups": groups})
    before.kept = {name: values.to(before.device) for name, values in under(tensors, "before.").items()}
    before.generators = under(tensors, "generator.")
    try:
        before.restore()
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"the recorded step does not fit this network ({error}): train again") from None


def _laid_out(values: Tensor, device: torch.device) -> Tensor:
    """Tensor of a batch on ``device``; images in the layout in which they were trained on."""
    return values.to(device, memory_format=torch.channels_last) if values.dim() == 4 else values.to(device)
