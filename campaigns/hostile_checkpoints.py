"""Checkpoints that are damaged or lie: cut off, flipped, terabytes by their headers, NaN, other keys, bombs, run folders."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from foreign_files import push, saved, storage, tensor, text, whole, write_zip
from foreign_hostile import LIES
from foreign_others import ARCHIVES, OTHERS, safe
from hostile_case import REFUSED, Case
from hostile_kit import cut, flipped, put, put_run, run_folder, spliced, writes
from hostile_pickles import COMMANDS
from safetensors.torch import save

FAMILY = "checkpoints"
GIVEN: Mapping[str, Any] = {"set": ("--set", "activation=relu", "--normalisation", "cifar10")}
NUMBERS = (2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@functools.cache
def state() -> Mapping[str, torch.Tensor]:
    """Weights of a small network that is recognised."""
    from published_families import AUTHORS

    return dict(AUTHORS["kuangliu"].make())


@functools.cache
def files() -> Mapping[str, bytes]:
    """The weights in each format that is read."""
    arrays = io.BytesIO()
    import numpy as np

    np.savez(arrays, **{key: value.numpy() for key, value in state().items()})  # type: ignore[arg-type]
    return {
        "x.pt": saved(dict(state())),
        "legacy.pth": saved(dict(state()), _use_new_zipfile_serialization=False),
        "x.safetensors": save(dict(state())),
        "x.npz": arrays.getvalue(),
    }


def command(chance: random.Random, name: str) -> list[object]:
    words = COMMANDS[chance.choice(list(COMMANDS))]
    return [name if word == "FILE" else word for word in words]


def cases(chance: random.Random) -> Iterator[Case]:
    yield from _foreign(chance)
    yield from _changed_states(chance)
    yield from _terabytes(chance)
    yield from _zips(chance)
    yield from _places(chance)
    yield from _run_folders(chance)


def _foreign(chance: random.Random) -> Iterator[Case]:
    for number, (name, content, words) in enumerate(OTHERS):
        yield Case(FAMILY, f"{number}: {words}", writes(name, content, *command(chance, name)), REFUSED)
    for name, made in ARCHIVES.items():
        yield Case(FAMILY, name, writes("x.pt", made, *command(chance, "x.pt")), REFUSED)
    for name, lie in LIES.items():

        def make(folder: Path, lie: bytes = lie, words: Sequence[object] = command(chance, "x.pt")) -> Sequence[object]:
            write_zip(folder / "x.pt", whole(b"}", text("a"), lie, b"s"), _0=bytes(24))
            return words

        yield Case(FAMILY, f"a tensor: {name}", make, REFUSED)
    for name, content in files().items():
        for how, damaged in cut(content):
            yield Case(FAMILY, f"{name} {how}", writes(name, damaged, *command(chance, name)), REFUSED)
        for how, damaged in [
            *flipped(content, chance, 12),
            *flipped(content, chance, 12, 2000),
            *spliced(content, chance, 12),
        ]:
            yield Case(FAMILY, f"{name} {how}", writes(name, damaged, "inspect", name, *GIVEN["set"]))


def _changed_states(chance: random.Random) -> Iterator[Case]:
    """Weights with values and keys that no network has. Where they are refused, it is at the latest when they are used."""
    own = dict(state())
    first, *others = (key for key, value in own.items() if value.is_floating_point() and value.dim() > 1)
    last = others[-1]
    changed: dict[str, dict[Any, Any]] = {
        "lacks a weight": {k: v for k, v in own.items() if k != last},
        "lacks the head": {k: v for k, v in own.items() if k.split(".")[0] not in ("linear", "fc")},
        "another shape": {**own, first: torch.zeros(1, 1, 1, 1)},
        "a scalar": {**own, first: torch.tensor(1.0)},
        "no elements": {**own, first: torch.zeros(0, 3, 3, 3)},
        "17 dimensions": {**own, first: torch.zeros([1] * 17)},
        "text for a weight": {**own, first: "canary"},
        "a list for a weight": {**own, first: [1.0]},
        "None for a weight": {**own, first: None},
        "numbers for keys": dict(enumerate(own.values())),
        "an empty key": {**own, "": torch.zeros(1)},
        "a key of a megabyte": {**own, "k" * 2**20: torch.zeros(1)},
        "a key that climbs": {**own, "../../canary": torch.zeros(1)},
        "a key with an escape": {**own, "\x1b]0;x\x07.weight": torch.zeros(1)},
        "50,000 keys": {**own, **{f"k{i}": torch.zeros(1) for i in range(50_000)}},
        "nothing": {},
        "nested a hundred times": functools.reduce(lambda inner, _: {"model": inner}, range(100), own),
        "complex": {k: v.to(torch.complex64) for k, v in own.items()},
        "booleans": {k: v.bool() for k, v in own.items()},
    }  # fmt: skip
    for value in (float("nan"), float("inf"), -float("inf"), 1e38, 0.0):
        for which in ("one", "all"):
            new = {k: v.clone() for k, v in own.items()}
            for key in [last] if which == "one" else [k for k, v in own.items() if v.is_floating_point()]:
                new[key].view(-1)[0 if which == "one" else slice(None)] = value
            changed[f"{which} {value}"] = new
    for name, new in changed.items():
        content = partial(saved, new)
        finite = "nan" not in name and "inf" not in name
        for words in (("import", "x.pt", "--out", "run", *GIVEN["set"], "--quiet"), ("inspect", "x.pt", *GIVEN["set"])):
            must = None if finite or words[0] == "inspect" else REFUSED
            yield Case(FAMILY, f"{name}, {words[0]}", writes("x.pt", content, *words), must)
        words = ("transfer", "--source", "x.pt", *GIVEN["set"], "--data", "builtin:digits", "--strategy", "linear-probe",
                 "--shots", "2", "--out", "run", "--quiet")  # fmt: skip
        yield Case(FAMILY, f"{name}, transfer", writes("x.pt", content, *words), None if finite else REFUSED)


def _terabytes(chance: random.Random) -> Iterator[Case]:
    for number in NUMBERS:
        yield Case(FAMILY, f"a header of {number}", writes("x.safetensors", struct.pack("<Q", number) + b'{"a":1}',
                   *command(chance, "x.safetensors")), REFUSED)  # fmt: skip
        header: Any = {"a": {"dtype": "F32", "shape": [number], "data_offsets": [0, min(4 * number, 2**64 - 1)]}}
        yield Case(FAMILY, f"a tensor of {number}", writes("x.safetensors", safe(header),
                   *command(chance, "x.safetensors")), REFUSED)  # fmt: skip
        array = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({number},), }}".encode().ljust(117) + b"\n"
        yield Case(FAMILY, f"an array of {number}", writes("x.npy", b"\x93NUMPY\x01\x00v\x00" + array,
                   *command(chance, "x.npy")), REFUSED)  # fmt: skip
        lie = tensor(storage("0", number), 0, (number,), (1,))

        def make(folder: Path, lie: bytes = lie, words: Sequence[object] = command(chance, "x.pt")) -> Sequence[object]:
            write_zip(folder / "x.pt", whole(b"}", text("a"), lie, b"s"), _0=bytes(24))
            return words

        yield Case(FAMILY, f"a storage of {number}", make, REFUSED)
        for code, form in (
            (b"X", "<I"),
            (b"B", "<I"),
            (b"\x8d", "<Q"),
            (b"\x8e", "<Q"),
            (b"\x96", "<Q"),
            (b"\x8b", "<I"),
        ):
            length = struct.pack(form, number & (2**32 - 1 if form == "<I" else 2**64 - 1))
            yield Case(FAMILY, f"opcode {code!r} of {number}", writes("x.pkl", b"\x80\x05" + code + length + b"abc.",
                       *command(chance, "x.pkl")), REFUSED)  # fmt: skip
        yield Case(FAMILY, f"a memo at {number}", writes("x.pkl", whole(b"Nr" + struct.pack("<I", number & 0xFFFFFFFF)),
                   *command(chance, "x.pkl")), REFUSED)  # fmt: skip
    for header in ({"a": {"dtype": "F32", "shape": [10**400], "data_offsets": [0, 8]}}, {"a": None}, [], 3, "x", {"": {}},
                   {"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}},
                   {"a": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}},
                   {"a": {"dtype": "F32", "shape": [True, 2], "data_offsets": [0, 8]}},
                   {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8, 16]}},
                   {"a": {"dtype": "F32", "shape": [2], "data_offsets": ["0", "8"]}},
                   {"a": {"dtype": "F32", "shape": {}, "data_offsets": {}}},
                   {"__metadata__": {"a": 3}}, {"__metadata__": []}):  # fmt: skip
        yield Case(FAMILY, f"a header {str(header)[:60]}", writes("x.safetensors", safe(header),
                   *command(chance, "x.safetensors")), REFUSED)  # fmt: skip
    deep = b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}"
    yield Case(FAMILY, "a deep header", writes("x.safetensors", safe(deep), "inspect", "x.safetensors"), REFUSED)
    many = json.dumps(
        {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(200_000)}
    ).encode()
    yield Case(FAMILY, "200,000 tensors", writes("x.safetensors", safe(many, b""), "inspect", "x.safetensors"), REFUSED)
    digits = b'{"a":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,8]}}'
    yield Case(FAMILY, "100,000 digits", writes("x.safetensors", safe(digits), "inspect", "x.safetensors"), REFUSED)


def _zips(chance: random.Random) -> Iterator[Case]:
    """Zip archives that lie: duplicates, sizes, checksums, methods, comments, what stands before and behind."""
    good = files()["x.pt"]

    def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as made:
            for name, content in members:
                made.writestr(name, content)
        return file.getvalue()

    nothing = whole(b"N")
    bomb = whole(b"](" + b"N" * (1 << 22) + b"e")
    small = archive(("a/data.pkl", nothing), ("a/version", b"3\n"))
    at, member = small.rfind(b"PK\5\6"), small.find(b"PK\1\2")
    many = archive(*((f"a/data/{i}", b"") for i in range(50_000)), ("a/data.pkl", nothing))
    made = {
        "a pickle that unfolds": archive(("a/data.pkl", bomb), method=zipfile.ZIP_DEFLATED),
        "a pickle of zeros": archive(("a/data.pkl", bytes(1 << 26)), method=zipfile.ZIP_DEFLATED),
        "bzip2": archive(("a/data.pkl", nothing), method=zipfile.ZIP_BZIP2),
        "lzma": archive(("a/data.pkl", nothing), method=zipfile.ZIP_LZMA),
        "50,000 members": many,
        "a zip in a zip": archive(("a/data.pkl", small), method=zipfile.ZIP_DEFLATED),
        "two folders": archive(("a/data.pkl", nothing), ("a/b/data.pkl", nothing)),
        "capitals": archive(("A/DATA.PKL", nothing)),
        "backslashes": archive(("a\\data.pkl", nothing)),
        "a name that climbs": archive(("../../data.pkl", nothing), ("../../canary", b"x")),
        "an absolute name": archive(("/tmp/canary/data.pkl", nothing), ("/tmp/canary", b"x")),
        "a zero in a name": archive(("a/data.pkl", nothing), ("a/x", nothing)).replace(b"a/x", b"a/\0"),
        "a byteorder of a megabyte": archive(("a/data.pkl", nothing), ("a/byteorder", b"b" * 2**20)),
        "entries beyond": small[: at + 10] + b"\xff\xff" + small[at + 12 :],
        "a directory beyond": small[: at + 16] + b"\xff\xff\xff\x7f" + small[at + 20 :],
        "a member beyond": small[: member + 42] + b"\xff\xff\xff\x7f" + small[member + 46 :],
        "a comment beyond": small[: at + 20] + b"\xff\xff",
        "another checksum": small[: member + 16] + b"abcd" + small[member + 20 :],
        "encrypted": small[: member + 8] + b"\x01\x00" + small[member + 10 :],
        "a script before it": b"#!/bin/sh\ntouch canary\n" + good,
        "a pickle before it": nothing + good,
        "behind a comment": good[:-2] + b"\x10\x00" + b"PK\5\6" + bytes(12),
    }  # fmt: skip
    sizes = 2**32 - 1
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2**40, 2**40, 2**50, 2**50)
    made["zip64 that lies"] = small[:at] + record + b"PK\6\7" + struct.pack("<IQI", 0, at, 1) + b"PK\5\6" + struct.pack(
        "<HHHHIIH", 0, 0, 65535, 65535, sizes, sizes, 0)  # fmt: skip
    for name, content in made.items():
        for file in ("x.pt", "x.npz"):
            must = None if "before" in name or "behind" in name else REFUSED
            yield Case(FAMILY, f"zip: {name}, {file}", writes(file, content, "inspect", file, *GIVEN["set"]), must)


def _places(chance: random.Random) -> Iterator[Case]:
    """Names that lead elsewhere: links, devices, shards outside of the folder."""
    for target in ("../../../../../etc/passwd", "/etc/passwd", "/dev/zero", "x.pt", "none", "~/x"):

        def link(folder: Path, target: str = target) -> Sequence[object]:
            os.symlink(target, folder / "x.pt")
            return "inspect", "x.pt"

        yield Case(FAMILY, f"a link to {target}", link, REFUSED)
    for shard in ("../../../../etc/passwd", "/etc/passwd", "", ".", "..", "x.safetensors.index.json", "a\0b", "a" * 5000, 3,
    None,
                  ["x"], "\x1b[31m.safetensors", "http://127.0.0.1:9/x"):  # fmt: skip
        content = json.dumps({"weight_map": {"a": shard}}).encode()
        name = "x.safetensors.index.json"
        yield Case(FAMILY, f"a shard {str(shard)[:30]!r}", writes(name, content, "inspect", name), REFUSED)
    index: Any
    for index in ({"weight_map": []}, {"weight_map": None}, {}, [], {"weight_map": {}},
    {"weight_map": {"a": "x.safetensors"} | {
            f"k{i}": f"s{i}" for i in range(20_000)}}):  # fmt: skip
        yield Case(FAMILY, f"an index {str(index)[:40]}", writes("x.bin.index.json", json.dumps(index).encode(), "inspect",
                   "x.bin.index.json"), REFUSED)  # fmt: skip

    def fifo(folder: Path) -> Sequence[object]:
        os.mkfifo(folder / "x.pt")
        return "inspect", "x.pt"

    yield Case(FAMILY, "a pipe", fifo, REFUSED)
    for name in (
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/mem",
        "/proc/self/environ",
        "",
        ".",
        "a\nb",
        "\x1b[2J",
        "x" * 5000,
    ):
        yield Case(FAMILY, f"the file {name[:20]!r}", partial(_named, name=name), REFUSED)


def _named(folder: Path, name: str) -> Sequence[object]:
    return "inspect", name


def _run_folders(chance: random.Random) -> Iterator[Case]:
    """Run folders of others."""
    uses: list[Sequence[object]] = [
        ("evaluate", "run", "--data", "builtin:digits", "--threat", "linf:8/255", "--attack", "pgd-1", "--examples", "8",
        "--quiet"),
        ("predict", "run", "x.png", "--quiet"),
        ("transfer", "--source", "run", "--data", "builtin:digits", "--strategy", "linear-probe", "--shots", "2", "--out",
        "o", "--quiet"),
        ("report", "run", "--out", "report.html", "--no-pictures", "--quiet"),
        ("compare", "run", "good"),
        ("inspect", "run"),
    ]  # fmt: skip
    from images import encoded, picture

    def make(folder: Path, words: Sequence[object], changes: Mapping[str, bytes]) -> Sequence[object]:
        put_run(folder / "good")
        put(folder, {"x.png": encoded(picture(0, 0))})
        put(folder / "run", {**run_folder(), **changes})
        return words

    for name, content in run_folder().items():
        damaged = [
            *cut(content),
            *flipped(content, chance, 6),
            *spliced(content, chance, 6),
            ("zeros", bytes(len(content))),
        ]
        for how, new in damaged:
            words = chance.choice(uses)
            yield Case(FAMILY, f"run folder: {name} {how}, {words[0]}", partial(make, words=words, changes={name: new}))
    for name in ("model.safetensors", "fingerprints.safetensors"):
        for kind, content in files().items():
            yield Case(FAMILY, f"run folder: {name} is {kind}", partial(make, words=uses[0], changes={name: content}),
                       REFUSED if name.startswith("model") else None)  # fmt: skip
    card = json.loads(run_folder()["card.json"])
    from hostile_texts import changed_json

    for what, value in changed_json(card, chance, 60):
        words = chance.choice(uses)
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        yield Case(FAMILY, f"card: {what}, {words[0]}", partial(make, words=words, changes={"card.json": content}))
    network: dict[str, Any]
    for network in ({"name": "vit_giant_patch14_224"}, {"name": "convnext_xxlarge"}, {"name": "wrn_34_10"},
    {"name": "resnet50", "num_classes": 10**9},
                    {"name": "../../canary"}, {"name": "timm:x"}, {"name": ""}, {"settings": {"pretrained": True}},
                    {"settings": {"depth": 10**9}},
                    {"settings": {"drop_rate": "x"}}, {"settings": {"pretrained_cfg": {"url": "http://127.0.0.1:9/x"}}},
                    {"settings": {"head_layer": "x"}},
                    {"settings": {"checkpoint_path": "/etc/passwd"}}):  # fmt: skip
        changed: dict[str, Any] = {**card, "network": {**card["network"], **network}}
        for words in (uses[0], uses[5]):
            yield Case(FAMILY, f"card: the network {str(network)[:60]}, {words[0]}",
                       partial(make, words=words, changes={"card.json": json.dumps(changed).encode()}),
                       REFUSED if words[0] == "evaluate" else None)  # fmt: skip
    for size in (0, -1, 1, 10**5, 2**31, 2**63):
        prepared = {**card["network"]["preprocessing"], "size": size}
        changed = {**card, "network": {**card["network"], "preprocessing": prepared}}
        yield Case(
            FAMILY,
            f"card: a size of {size}",
            partial(make, words=uses[0], changes={"card.json": json.dumps(changed).encode()}),
        )
    made = json.loads(run_folder()["evaluation.json"])
    for what, value in changed_json(made, chance, 60):
        words = chance.choice((uses[3], uses[4]))
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        yield Case(
            FAMILY, f"evaluation: {what}, {words[0]}", partial(make, words=words, changes={"evaluation.json": content})
        )
    from foreign_hostile import HOSTILE

    pickled = whole(b"}(", text("a"), push([1.0]), text("b"), HOSTILE["os.system"], b"u")
    for name in run_folder():
        yield Case(
            FAMILY, f"run folder: {name} is a pickle", partial(make, words=chance.choice(uses), changes={name: pickled})
        )
