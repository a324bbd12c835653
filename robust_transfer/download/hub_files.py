"""Names on the Hugging Face Hub, and the choice of a weights file in a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.registry import nearest

LISTED = 12  # an error message lists at most so many files
# Configuration files beside the weights; the last two are a run folder's.
BESIDE = ("config.json", "open_clip_config.json", "preprocessor_config.json", "card.json", "fingerprints.safetensors")
# In this order; the first that is there is taken.
USUAL = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
_INDEX = ".safetensors.index.json"
_ENDINGS = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".npz")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.\w+$")
# What training leaves beside the weights.
_OTHER = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state|sampler)[\w-]*\.(bin|pt|pth)$")
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<file>[^@]+))?", re.ASCII)


@dataclass(frozen=True)
class HubName:
    """Repository on the Hub, with an optional branch, tag or commit, and an optional file."""

    repo: str
    revision: str | None
    file: str | None

    def at(self, commit: str, file: str) -> str:
        """Same name, pinned to a commit."""
        return f"hf:{self.repo}@{commit}/{file}"


def read_hub_name(text: str) -> HubName:
    """Parse ``hf:OWNER/REPO[@REVISION][/FILE]``; a ``/`` in a revision is written ``%2F``. Raises :class:`ConfigError`."""
    matched = _NAME.fullmatch(text.removeprefix("hf:"))
    if matched is None or ".." in PurePosixPath(matched["file"] or "").parts:
        raise ConfigError(f"{text!r} names nothing on the Hub: write hf:OWNER/REPO, hf:OWNER/REPO@REVISION/FILE")
    revision = matched["revision"]
    return HubName(matched["repo"], revision.replace("%2F", "/") if revision else None, matched["file"])


def choose(name: HubName, files: Iterable[str]) -> str:
    """File of weights: the requested one, else safetensors before PyTorch's formats, usual names before others.

    Raises :class:`CheckpointError` where there is none, or where several candidates cannot be told apart.
    """
    files = sorted(files)
    if name.file is not None:
        if name.file in files:
            return name.file
        close = nearest(name.file, files)
        hint = f"did you mean {' or '.join(close)}?" if close else f"it has {_listed(files)}"
        raise CheckpointError(f"hf:{name.repo} has no file {name.file!r}: {hint}")
    for usual in USUAL:
        if usual in files:
            return usual
    indices = [file for file in files if file.endswith(_INDEX)]
    single = [file for file in files if file.endswith(".safetensors") and not _SHARD.search(file)]
    others = [file for file in files if file.endswith(_ENDINGS) and not (_OTHER.search(file) or _SHARD.search(file))]
    for found in (indices + single, others):
        if len(found) == 1:
            return found[0]
        if found:
            raise CheckpointError(
                f"hf:{name.repo} has {len(found)} files of weights ({_listed(found)}): say which, hf:{name.repo}/FILE"
            )
    raise CheckpointError(
        f"hf:{name.repo} has no weights that are read (.safetensors, {', '.join(_ENDINGS)}): it has {_listed(files)}"
    )


def is_index(file: str) -> bool:
    """True for the index of weights that are split over several files."""
    return file.endswith(_INDEX)


def within(index: str, shard: object) -> str:
    """Path of a shard in an ``index``. Raises :class:`CheckpointError` for one outside the index's folder."""
    if not isinstance(shard, str) or PurePosixPath(shard).name != shard or not shard.endswith(".safetensors"):
        raise CheckpointError(f"the index {index} names {shard!r}, which is no safetensors file beside it")
    return PurePosixPath(index).with_name(shard).as_posix()


def _listed(files: list[str]) -> str:
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    return ", ".join(files[:LISTED]) + more if files else "no files at all"
