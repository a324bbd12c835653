"""Third-party files of weights: detect the format and read the contents, executing nothing.

safetensors, PyTorch's two formats, NumPy's archives, plain pickles, and the first two in several files with an index.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from robust_transfer.errors import CheckpointError
from robust_transfer.files import expanded
from robust_transfer.foreign import kinds, numpy_files, torch_files
from robust_transfer.foreign.archives import Archive
from robust_transfer.foreign.bytes_of import Bytes, opened
from robust_transfer.foreign.contents import Contents, Inert, module_state
from robust_transfer.foreign.pickles import Machine
from robust_transfer.foreign.plain import Plain
from robust_transfer.foreign.values import BrokenError
from robust_transfer.weights_file import DamagedError, header_length, parse_header

INDEX = ".index.json"
MOST_INDEX = 1 << 26  # bytes
ONE_OF_MANY = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(safetensors|bin)")


def read_weights(path: Path) -> Contents:
    """Contents of a file of weights. Raises :class:`CheckpointError`, one sentence that names the file's kind.

    An index (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``) stands for its files. Memory: the
    file's bytes are read in place, so a tensor takes memory on access; a pickle takes a few times its instructions,
    which are bounded.
    """
    path = expanded(path)
    source = opened(path)
    try:
        if path.name.endswith(INDEX):
            return _sharded(path, source)
        if found := ONE_OF_MANY.fullmatch(path.name):
            index = f"{found[1]}.{found[3]}{INDEX}"
            raise CheckpointError(f"{path} is one of {int(found[2])} files of weights: give {index}, which names all")
        return _read(path, source)
    except (BrokenError, DamagedError) as error:
        raise CheckpointError(
            f"{path} is damaged or made to do harm ({error}): get it again from where it was published"
        ) from None


def _read(path: Path, source: Bytes) -> Contents:
    head, tail = bytes(source.view[:4096]), bytes(source.view[-64:])
    if sentence := kinds.foreign(path, head, tail):
        raise CheckpointError(sentence)
    if head.startswith(b"PK"):
        return _archive(path, source)
    if head.startswith(numpy_files.MAGIC):
        tree = numpy_files.read_npy(source.tensor(0, len(source), 8))
        return Contents(tree, "NumPy archive", mappings=_mappings(source))
    if head[8:9] == b"{":
        return _safetensors(source)
    if head[:1] in (b"{", b"["):
        raise CheckpointError(kinds.told_by_json(path, bytes(source.view[: 1 << 20])))
    if head[:1] == b"\x80" or head[:2] in (b"(d", b"(l", b"(i", b"(c", b"cc", b"c_", b"cn", b"ct", b"co", b"cp", b"cb"):
        return _pickle(source)
    if head[:256].isascii() and head[:256].strip(b"\0").isascii() and b"\0" not in head:
        raise CheckpointError(f"{path} is text, not weights: {kinds.READ}")
    raise CheckpointError(f"{path} is in no format that is read: {kinds.READ}")


def _mappings(*sources: Bytes) -> tuple[Any, ...]:
    return tuple(source.mapping for source in sources if source.mapping is not None)


def _safetensors(source: Bytes) -> Contents:
    length = header_length(bytes(source.view[:8]), len(source))
    header = parse_header(bytes(source.view[8 : 8 + length]), len(source))
    tree = {
        name: source.tensor(entry.start, entry.end - entry.start, entry.dtype.itemsize)
        .view(entry.dtype)
        .view(entry.shape)
        for name, entry in header.entries.items()
    }
    return Contents(tree, "safetensors", metadata=header.metadata, mappings=_mappings(source))


def _archive(path: Path, source: Bytes) -> Contents:
    archive = Archive(source)
    names = list(archive.members)
    pickles = [name for name in names if name.split("/")[1:] == ["data.pkl"] or name == "data.pkl"]
    if pickles and any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path} is a program (TorchScript), which would have to be run: save its weights, torch.save("
            "torch.jit.load(path).state_dict(), file), where you trust it"
        )
    if len(pickles) == 1:
        machine = Machine()
        value = torch_files.read_zip(archive, machine)
        return _contents(value, "PyTorch zip", machine, source)
    if pickles:
        raise BrokenError("its archive has several pickles")
    if names and all(name.endswith(".npy") for name in names):
        return Contents(numpy_files.read_npz(archive), "NumPy archive", mappings=_mappings(source))
    raise CheckpointError(kinds.of_archive(path, names))


def _pickle(source: Bytes) -> Contents:
    """Contents of a pickle; in PyTorch's legacy format the first one is a magic number."""
    machine = Machine()
    machine.nested = lambda content, outer: torch_files.read_nested(content, outer, source)
    value = machine.load(source)
    if isinstance(value, int) and value == torch_files.MAGIC:
        return _contents(torch_files.read_legacy(source, machine), "PyTorch legacy", machine, source)
    if source.at < len(source):
        raise BrokenError("it continues after its pickle, as files of several pickles do")
    return _contents(value, "pickle", machine, source)


def _contents(value: Any, form: str, machine: Machine, source: Bytes) -> Contents:
    tree = Plain(len(source)).tree(value)
    return Contents(tree, form, tuple(sorted(machine.names)), mappings=_mappings(source))


def _sharded(path: Path, source: Bytes) -> Contents:
    """Tensors of the files in an index, from the index's folder."""
    try:
        index = json.loads(bytes(source.view[:MOST_INDEX]).decode("utf-8"))
        places = {str(key): str(name) for key, name in index["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} is no index of weights: it has no 'weight_map'") from None
    tree, refused, parts = dict[str, Any](), set[str](), list[Contents]()
    names = sorted(set(places.values()))
    for name in names:
        if name != Path(name).name or name in ("", ".", "..") or "\\" in name or "\0" in name or name.endswith(INDEX):
            raise CheckpointError(f"{path} names the file {name[:100]!r}, which is not beside it: get it again")
    for name in names:
        file = path.parent / name
        if not file.exists():
            raise CheckpointError(f"{path} names {name}, which is missing beside it: get that file, too")
        try:
            part = _read(file, opened(file))
        except (BrokenError, DamagedError) as error:
            raise CheckpointError(f"{file} is damaged or made to do harm ({error}): get it again") from None
        wanted = {key for key, place in places.items() if place == name}
        if not isinstance(part.tree, dict) or set(part.tree) != wanted:
            raise CheckpointError(
                f"{file} does not hold the tensors that {path.name} says: get all files again, of one version"
            )
        tree |= part.tree
        refused |= set(part.refused)
        parts.append(part)
    if not parts:
        raise CheckpointError(f"{path} names no files: get it again")
    mappings = tuple(mapping for part in parts for mapping in part.mappings)
    return Contents(tree, parts[0].format, tuple(sorted(refused)), dict(parts[0].metadata), mappings)


__all__ = ["Contents", "Inert", "module_state", "read_weights"]
