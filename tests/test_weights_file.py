"""safetensors tensor by tensor: the library's own bytes, read and written in one pass."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file

from robust_transfer.weights_file import DTYPES, DamagedError, WeightsFile, write_weights

STATE = {
    f"{name}.é\n": torch.rand(3, 2).to(dtype) if dtype.is_floating_point else torch.ones(2, 2).to(dtype)
    for name, dtype in DTYPES.items()
    if dtype not in (torch.uint16, torch.uint32, torch.uint64)
}
STATE |= {
    "b": torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last),
    "a": torch.tensor(3),
    "c": torch.empty(0, 2),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_written_is_what_the_library_writes(tmp_path: Path, dtype: torch.dtype) -> None:
    digest = write_weights(tmp_path / "x", STATE, dtype)
    content = (tmp_path / "x").read_bytes()
    stored = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous() for k, v in STATE.items()}
    assert content == save(stored)
    assert digest == hashlib.sha256(content).hexdigest()
    assert load(content).keys() == STATE.keys()


@pytest.mark.parametrize("size", [1, 600_000])
def test_what_is_read_is_what_the_library_reads(tmp_path: Path, size: int) -> None:
    save_file(
        {**{k: v.contiguous() for k, v in STATE.items()}, "large": torch.rand(size)},
        tmp_path / "x",
        metadata={"a": "b"},
    )
    wanted = load_file(tmp_path / "x")
    with WeightsFile(tmp_path / "x") as file:
        header = file.header()
        found = dict(file.tensors(header))
        assert header.metadata == {"a": "b"}
        assert file.digest() == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape)
        assert bytes(found[key].reshape(-1).view(torch.uint8).numpy()) == bytes(
            value.reshape(-1).view(torch.uint8).numpy()
        )


def test_the_hash_is_the_files_however_much_was_read(tmp_path: Path) -> None:
    write_weights(tmp_path / "x", STATE, torch.float32)
    wanted = hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    for some in range(4):
        with WeightsFile(tmp_path / "x") as file:
            if some:
                header = file.header()
            if some > 1:
                for _ in zip(range(some), file.tensors(header), strict=False):
                    pass
            assert file.digest() == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "F33"}, "has the type 'F33'"),
        ({"shape": [3]}, "does not match its shape and type"),
        ({"shape": [-2]}, "invalid shape or position"),
        ({"shape": [2.0]}, "invalid shape or position"),
        ({"data_offsets": [8, 16]}, "does not begin where the tensor before it ends"),
        ({"data_offsets": [0]}, "its header cannot be read"),
        ({"dtype": None}, "has the type None"),
    ],
)
def test_headers_that_lie(tmp_path: Path, change: dict[str, object], message: str) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}}).encode()
    (tmp_path / "x").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with WeightsFile(tmp_path / "x") as file, pytest.raises(DamagedError, match=message):
        file.header()


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    write_weights(tmp_path / "x", {"a": torch.rand(10_000)}, torch.float32)
    with WeightsFile(tmp_path / "x") as file:
        header = file.header()
        with (tmp_path / "x").open("r+b") as other:
            other.truncate(1000)
        with pytest.raises(DamagedError, match="became shorter"):
            dict(file.tensors(header))
