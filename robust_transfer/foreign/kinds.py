"""Kinds of files that are not checkpoints, recognised by their first bytes, with advice."""

from __future__ import annotations

from pathlib import Path

from robust_transfer.texts import from_json

COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"(\xb5/\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
OTHERS = {
    b"\x89HDF\r\n": "HDF5, as Keras and MATLAB write it",
    b"GGUF": "GGUF, a format of language models",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"RIFF": "a picture or a sound",
    b"%PDF": "a PDF document",
    b"\x7fELF": "a program",
    b"#!": "a program",
}
READ = "give weights of PyTorch (.pt, .pth, .ckpt, .bin), safetensors or NumPy (.npz, .pkl)"


def foreign(path: Path, head: bytes, tail: bytes) -> str | None:
    """Error message for a file known not to hold readable weights; None for an unknown kind.

    ``head`` and ``tail`` are some of its first and last bytes.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for begins, name in COMPRESSED.items():
        if head.startswith(begins):
            return f"{path} is compressed by {name}: unpack it first, and give the file that comes out"
    for begins, name in OTHERS.items():
        if head.startswith(begins):
            return f"{path} is {name}: {READ}"
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' in its folder"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<script", b"<error")):
        return f"{path} is a web page, not the weights: open its address in a browser, download the file, and give that"
    if head[257:262] == b"ustar":
        return f"{path} is a tar archive, or a file of PyTorch before 0.2: unpack it, or save it again with a later PyTorch"
    if head[4:8] == b"TFL3" or path.suffix == ".pb" or tail.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"):
        return f"{path} is a file of TensorFlow: {READ}"
    if ".data-" in path.name and "-of-" in path.name:
        return f"{path} is a part of a checkpoint of TensorFlow: {READ}"
    if path.suffix == ".onnx" or (head[:1] == b"\x08" and head[2:3] == b"\x12" and b"torch" in head[:32]):
        return f"{path} is a graph in ONNX, which has lost the names of its layers: {READ}"
    if not head.strip(b"\0"):
        return f"{path} holds nothing but zeros: its download was interrupted, get it again"
    return None


def told_by_json(path: Path, content: bytes) -> str:
    """Error message for a file of JSON, such as a server's message."""
    try:
        found = from_json(content)
    except ValueError:
        return f"{path} is text, not weights: {READ}"
    given = found if isinstance(found, dict) else {}
    messages = [given[key] for key in ("error", "message", "detail") if isinstance(given.get(key), str)]
    if messages:
        message = " ".join(messages[0].split())[:100]
        return f"{path} is the answer of a server that refused ({message}), not the weights: get it again"
    return f"{path} is JSON, not weights: {READ}"


def of_archive(path: Path, names: list[str]) -> str:
    """Error message for a zip archive that is neither a PyTorch checkpoint nor a NumPy archive."""
    if any(name.endswith("model.weights.h5") for name in names):
        return f"{path} is a model of Keras: {READ}"
    inside = [
        name
        for name in names
        if name.endswith((".pt", ".pth", ".ckpt", ".tar", ".bin", ".safetensors", ".npz", ".pkl"))
    ]
    if inside:
        return f"{path} is a zip archive of files: unpack it, and give one of them, for instance {inside[0][:100]}"
    return f"{path} is a zip archive without weights: {READ}"
