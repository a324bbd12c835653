"""Progress of attacks over tensors: surviving images, adversarial images found, and remaining work."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robust_transfer.attacks import AttackResult
from robust_transfer.errors import OutputError
from robust_transfer.files import write_atomically

SAVE_SECONDS = 60.0  # seconds between two writings
TENSORS = ("adversarial", "predicted", "standing", "right", "pending")


@dataclass
class Progress:
    """State of ``N`` images; tensors are on the images' device.

    ``adversarial``: an image that breaks the model, else the clean one; ``predicted``: its class. ``right``:
    correctly classified when clean; ``standing``: still so. ``done``: finished attacks; ``pending``: rows that the
    next one has not had yet, None before it began. ``left``: attacks that the time limit skipped or cut short.
    """

    adversarial: Tensor
    predicted: Tensor
    right: Tensor
    standing: Tensor
    identity: dict[str, str]
    path: Path | None = None
    pending: Tensor | None = None
    done: int = 0
    restored: bool = False
    left: list[str] = field(default_factory=list)
    saved: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls, clean: Tensor, labels: Tensor, predicted: Tensor, path: Path | None, identity: dict[str, str]
    ) -> Progress:
        """State in the file ``path``, else the initial state by the clean images' classes, ``predicted``.

        Raises :class:`OutputError` for a file of another ``identity``, or a damaged one.
        """
        if path is not None and path.exists():
            return _read(path, identity, clean.device)
        right = predicted == labels
        return cls(clean.detach().clone(), predicted, right, right.clone(), identity, path)

    def share(self) -> float:
        """Share of the images that survive."""
        return self.standing.float().mean().item()

    def clean_share(self) -> float:
        """Share of the images that are correct when clean."""
        return self.right.float().mean().item()

    def note(self, rows: Tensor, found: AttackResult) -> None:
        """Store an attack's results on its next rows."""
        assert self.pending is not None
        broken = found.broken.to(rows.device)
        at, where = rows[broken], self.adversarial.device
        self.standing[at] = False
        self.adversarial[at] = found.adversarial[found.broken].to(where, self.adversarial.dtype)
        self.predicted[at] = found.prediction[found.broken].to(where)
        self.pending = self.pending[len(rows) :]
        if time.perf_counter() - self.saved > SAVE_SECONDS:
            self.save()

    def finish(self) -> None:
        """Mark the current attack as finished."""
        self.done, self.pending = self.done + 1, None
        self.save()

    def save(self) -> None:
        """Write the state atomically, if there is a file for it."""
        if self.path is None:
            return
        pending = torch.tensor([-1]) if self.pending is None else self.pending
        tensors = {name: getattr(self, name).cpu().contiguous() for name in TENSORS if name != "pending"}
        about = {"identity": json.dumps(self.identity), "done": str(self.done)}
        write_atomically(self.path, lambda file: save_file({**tensors, "pending": pending}, file, metadata=about))
        self.saved = time.perf_counter()


def _read(path: Path, identity: dict[str, str], device: torch.device) -> Progress:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in TENSORS}
        written, done = json.loads(about["identity"]), int(about["done"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise OutputError(f"{path} is no state of an evaluation, or a damaged one ({error}): remove it") from None
    for name, value in identity.items():
        if written.get(name) != value:
            raise OutputError(
                f"{path} is the state of another evaluation, whose {name} is {written.get(name)} and here {value}: "
                "give another state_path"
            )
    pending = tensors.pop("pending")
    known = {name: tensor.to(device) for name, tensor in tensors.items()}
    rest = None if pending.tolist() == [-1] else pending
    return Progress(**known, identity=identity, path=path, pending=rest, done=done, restored=True)


def hash_of(*tensors: Tensor) -> str:
    """Hash of the values of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
