"""Files of weights as sources: formats of PyTorch, NumPy and safetensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from typing_extensions import override

from robust_transfer.errors import CheckpointError
from robust_transfer.files import expanded
from robust_transfer.sources.base import SOURCES
from robust_transfer.sources.folder import CARD, WEIGHTS
from robust_transfer.sources.foreign import ForeignKind, Got


@SOURCES.register("a file of weights", summary="of a network that is recognised; read without executing it", paper="")
class WeightsFile(ForeignKind):
    """Any file; run folders are named by their folder."""

    @override
    def takes(self, name: str) -> bool:
        try:
            return bool(name) and expanded(name).is_file()
        except OSError as error:
            raise CheckpointError(f"cannot read {name!r}: {error.strerror or error}") from None

    @override
    def get(self, name: str) -> Got:
        path = expanded(name)
        if path.name == CARD or (path.name == WEIGHTS and (path.parent / CARD).is_file()):
            raise CheckpointError(f"{path} is one file of a run folder: give the folder, {str(path.parent)!r}")
        return Got(path, path.name, _sha256(path))

    @override
    def listed(self) -> dict[str, str]:
        return {
            "FILE": "a file of weights (.pt, .pth, .ckpt, .bin, .safetensors, .npz) of a network that is recognised"
        }


def _sha256(path: Path) -> str:
    """Hash of the file; for an index of shards, of the list of all its files' hashes in the format of ``sha256sum``."""
    from robust_transfer.download import sha256_of

    try:
        shards = json.loads(path.read_bytes())["weight_map"].values() if path.name.endswith(".index.json") else ()
        files = [path, *(path.with_name(str(name)) for name in sorted(set(shards)))]
        lines = [f"{sha256_of(file)}  {file.name}\n" for file in files]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # reading it reports the error
        return ""
    return lines[0][:64] if len(lines) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
