"""Files that are no checkpoints, or cut-off and lying ones, each with words of the sentence that says so."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import warnings
import zipfile
from collections.abc import Callable

import pytest
import torch
from foreign_files import saved, storage, tensor, text, whole
from safetensors.torch import save
from torch import Tensor, nn

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
TENSORS: dict[str, Tensor] = {name: (torch.arange(6).view(2, 3) % 2).to(getattr(torch, name)) for name in DTYPES}
TENSORS |= {"scalar": torch.tensor(1.5), "empty": torch.empty(0, 3), "nothing": torch.empty(3, 0, 2)}


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return file.getvalue()


def torch_script() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated; files of it are about
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a/data.pkl", whole(b"N"))
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a/data.pkl", whole(b"K\x01"))
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        made.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return file.getvalue()


def zip_bomb() -> bytes:
    """Members that unfold to thirty times what they are, twice as often as is read; the file has 1.2 MB."""
    file, many = io.BytesIO(), 20
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        places = b"".join(text(str(i)) + tensor(storage(str(i), 2**20), 0, (2**20,), (1,)) for i in range(many))
        made.writestr("a/data.pkl", whole(b"}(", places, b"u"))
        for i in range(many):
            made.writestr(f"a/data/{i}", bytes(2**22))
    return file.getvalue()


def false_size() -> bytes:
    """A member that is said to be a gigabyte."""
    content = bytearray(archive(a__data_dot_pkl=whole(b"N")))
    at = content.rfind(b"PK\1\2")
    content[at + 20 : at + 28] = (2**30).to_bytes(4, "little") * 2
    return bytes(content)


def before_the_file() -> bytes:
    """A directory that is said to stand so much further on that its members begin a whole file before the first byte."""
    content = bytearray(archive(a__data_dot_pkl=whole(b"N")))
    at = content.rfind(b"PK\5\6") + 16
    content[at : at + 4] = (int.from_bytes(content[at : at + 4], "little") + len(content)).to_bytes(4, "little")
    return bytes(content)


def big_endian() -> bytes:
    return archive(a__data_dot_pkl=whole(b"N"), a__byteorder=b"big")


ARRAY = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 99)}  \n"
LEGACY = saved(TENSORS, _use_new_zipfile_serialization=False)
ZIP = saved(TENSORS)
SAFE = save(TENSORS)
OTHERS: list[tuple[str, bytes | Callable[[], bytes], str]] = [
    ("x.pt", b"", "is empty: its download failed"),
    ("x.pt", bytes(1000), "holds nothing but zeros"),
    ("x.pt", b"<!DOCTYPE html><html>404</html>", "is a web page, not the weights"),
    ("x.pt", b"\n  <HTML><head>", "is a web page, not the weights"),
    ("x.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer.*git lfs pull"),
    ("x.pt", b'{"error": "Repository not found"}', "the answer of a server that refused .Repository not found"),
    ("x.json", b'{"architecture": "resnet50"}', "is JSON, not weights"),
    ("x.json", b"[" * 100_000, "is text, not weights"),
    ("x.txt", b"Entry not found", "is text, not weights"),
    ("x.py", b"#!/usr/bin/env python\n", "is a program"),
    ("x.pt", gzip.compress(LEGACY), "is compressed by gzip: unpack it first"),
    ("x.tar", tar(), "is a tar archive, or a file of PyTorch before 0.2"),
    ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5, as Keras"),
    ("x.keras", archive(config_dot_json=b"{}", model_dot_weights_dot_h5=b"x"), "is a model of Keras"),
    ("x.tflite", b"\x1c\0\0\0TFL3" + bytes(100), "is a file of TensorFlow"),
    ("x.pb", b"\x08\x01\x12\x02" + bytes(100), "is a file of TensorFlow"),
    ("model.ckpt.index", b"x" * 50 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "is a file of TensorFlow"),
    ("model.ckpt.data-00000-of-00001", b"\x01" * 50, "is a part of a checkpoint of TensorFlow"),
    ("x.bin", b"\x08\x06\x12\x07pytorch\x1a\x031.9" + bytes(50), "is a graph in ONNX"),
    ("x.gguf", b"GGUF\x03\0\0\0", "is GGUF"),
    ("x.png", b"\x89PNG\r\n\x1a\n", "is a picture"),
    ("x.bin", bytes(range(1, 250)), "is in no format that is read"),
    ("x.pt", torch_script, "is a program .TorchScript."),
    ("x.zip", archive(a_dot_txt=b"x"), "is a zip archive without weights"),
    ("x.zip", archive(folder__net_dot_pth=b"x"), "is a zip archive of files: unpack it.*folder/net.pth"),
    ("x.pt", archive(a__data_dot_pkl=whole(b"N"), b__data_dot_pkl=whole(b"N")), "several pickles"),
    ("x.pt", twice, "two members 'a/data.pkl'"),
    ("x.pt", zip_bomb, "unfolds to more than 32 times its size"),
    ("x.pt", false_size, "is damaged"),
    ("x.pt", before_the_file, "a member begins before the file"),
    ("x.pt", big_endian, "big-endian"),
    ("x.pt", ZIP[: len(ZIP) // 2], "is cut off"),
    ("x.pt", ZIP[:-1], "is cut off|is damaged"),
    ("x.pt", b"PK\5\6" + bytes(18), "is a zip archive without weights"),
    ("x.pt", LEGACY[:-5], "is cut off"),
    ("x.pt", LEGACY[:20], "is damaged"),
    ("x.pt", LEGACY[:500], "is damaged"),
    ("x.safetensors", SAFE[:-1], "is damaged"),
    ("x.safetensors", SAFE[:100], "is damaged"),
    ("x.safetensors", SAFE[:8] + SAFE[8:].replace(b'"F32"', b'"F33"'), "type 'F33'"),
    ("x.safetensors", SAFE[:8] + SAFE[8:].replace(b'"shape":[2,3]', b'"shape":[3,3]'), "is damaged"),
    ("x.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': bad}  ", "header cannot be read"),
    ("x.npy", b"\x93NUMPY\x01\x00\x46\x00" + ARRAY, "cut off"),
]  # fmt: skip


def safe(header: object, body: bytes = bytes(8)) -> bytes:
    """A safetensors file with this header, which may be bytes."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(content).to_bytes(8, "little") + content + body


def climbing() -> bytes:
    """Members that would be written outside of the folder, were they unpacked."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("../../../evil/data.pkl", whole(b"N"))
        made.writestr("../canary", b"x")
    return file.getvalue()


def overlapping() -> bytes:
    """Two members at the same place."""
    content = bytearray(archive(a__data_dot_pkl=whole(b"N"), a__data_dot_pkX=whole(b"N")))
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)
    return bytes(content)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
OTHERS += [
    *(("x.pt", magic + bytes(100), f"is compressed by {name}") for magic, name in (
        (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"(\xb5/\xfd", "zstd"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "rar"))),
    ("x.safetensors", (2**40).to_bytes(8, "little") + b'{"a":1}', "cut off or has no header"),
    ("x.safetensors", safe({"a": ONE, "b": ONE}), "does not begin where the tensor before it ends"),
    ("x.safetensors", safe({"a": {**ONE, "data_offsets": [8, 0]}}), "is damaged"),
    ("x.safetensors", safe({"a": {**ONE, "data_offsets": [0, 2**50]}}), "is damaged"),
    ("x.safetensors", safe({"a": {**ONE, "shape": [-2]}}), "is damaged"),
    ("x.safetensors", safe({"a": {**ONE, "shape": [2**40, 2**40]}}), "is damaged"),
    ("x.safetensors", safe({"a": [1, 2]}), "header cannot be read"),
    ("x.safetensors", safe({"a": ONE, "__metadata__": 3}), "header cannot be read"),
    ("x.safetensors", safe(b'{"\xff\xfe": 1}'), "header cannot be read"),
    ("x.safetensors", safe(b'{"a":' * 50_000), "header cannot be read"),
    ("x.safetensors", safe(f'{{"a": {json.dumps(ONE)}, "a": {json.dumps(ONE)}}}'.encode()), "names 'a' twice"),
    ("x.npy", b"\x93NUMPY\x01\x00\x46\x00" + ARRAY.replace(b"9999999999, 99", b"-9999999999, 9"), "is damaged"),
    ("x.npy", b"\x93NUMPY\x09\x00\x46\x00" + ARRAY, "header cannot be read"),
    ("x.npy", b"\x93NUMPY\x01\x00\xff\xff" + ARRAY, "header cannot be read"),
    ("x.npy", b"\x93NUMPY", "header cannot be read"),
]  # fmt: skip
ARCHIVES = {
    "members that climb out": climbing,
    "members that overlap": overlapping,
}  # what is read of them is no weights
