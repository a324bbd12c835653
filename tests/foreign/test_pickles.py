"""Pickles that would do harm, and pickles that are broken: a stand-in or one sentence, and nothing is executed."""

from __future__ import annotations

import json
import pickle
import resource
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from children import with_helpers
from foreign_files import Calls, push, saved, storage, tensor, text, whole, write_zip

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.reading import Inert, read_weights

WEIGHT = [1.0, 2.0]
TOUCH = "touch canary"
CODE = "open('canary', 'w').close()"
LAUGHS = b"](K\x01K\x02e" + b"".join(b"q\x01](h\x01h\x01h\x01h\x01h\x01h\x01h\x01h\x01e" for _ in range(60))
SYSTEM = Calls("os.system", TOUCH)
# What pickle would run: each is read, and is inert. All make a file "canary" where they run.
HOSTILE: dict[str, bytes] = {
    "os.system": push(SYSTEM),
    "posix.system": push(Calls("posix.system", TOUCH)),
    "nt.system": push(Calls("nt.system", TOUCH)),
    "subprocess": push(Calls("subprocess.Popen", ["touch", "canary"])),
    "eval": push(Calls("builtins.eval", CODE)),
    "exec": push(Calls("builtins.exec", CODE)),
    "exec of Python 2": push(Calls("__builtin__.exec", CODE)),
    "compile": push(Calls("builtins.exec", Calls("builtins.compile", CODE, "x", "exec"))),
    "import": push(Calls("builtins.__import__", "antigravity")),
    "open": push(Calls("builtins.open", "canary", "w")),
    "getattr chain": push(Calls("builtins.getattr", Calls("builtins.__import__", "os"), "system"))
    + push((TOUCH,))
    + b"R",
    "dotted name": push(Calls("os.path.os.system", TOUCH)),
    "attrgetter": push(Calls("operator.attrgetter", "system")) + push((1,)) + b"R",
    "methodcaller": push(Calls("operator.methodcaller", "system", TOUCH)) + push((1,)) + b"R",
    "partial": push(Calls("functools.partial", Calls("os.system"), TOUCH)),
    "map": push(Calls("builtins.list", Calls("builtins.map", Calls("os.system"), [TOUCH]))),
    "runpy": push(Calls("runpy.run_path", "evil.py")),
    "ctypes": push(Calls("ctypes.CDLL", "evil.so")),
    "torch.hub": push(Calls("torch.hub.load", "evil/repo", "net", "check")),
    "torch.load": push(Calls("torch.load", "evil.pt")),
    "torch.jit": push(Calls("torch.jit.load", "evil.pt")),
    "torch.storage of a file": push(Calls("torch.UntypedStorage.from_file", "evil.bin", True, 10)),
    "load from bytes": push(Calls("torch.serialization.load", "evil.pt")),
    "numpy.load": push(Calls("numpy.load", "evil.npy", None, True)),
    "numpy runstring": push(Calls("numpy.testing._private.utils.runstring", CODE, {})),
    "pickle.loads": push(Calls("pickle.loads", pickle.dumps(1))),
    "dill": push(
        Calls("dill._dill._create_function", Calls("dill._dill._create_code", 0, CODE), {}, "f", None, None, {})
    ),
    "dill type": push(Calls("dill._dill._load_type", "CodeType")) + push((0,)) + b"R",
    "cloudpickle": push(Calls("cloudpickle.cloudpickle._make_function", 1, {})),
    "weights of timm": push(Calls("timm.create_model", "resnet18", True)),
    "new object": b"csubprocess\nPopen\n" + push((["touch", "canary"],)) + b"\x81",
    "new object with keywords": b"csubprocess\nPopen\n"
    + push((["touch", "canary"],))
    + push({"shell": True})
    + b"\x92",
    "instance": b"(" + text(TOUCH) + b"ios\nsystem\n",
    "object": b"(cos\nsystem\n" + text(TOUCH) + b"o",
    "stack global": text("os") + text("system") + b"\x93" + push((TOUCH,)) + b"R",
    "setstate": push(Calls("functools.partial", Calls("os.system"))) + push(({"a": 1}, {"__class__": SYSTEM})) + b"b",
    "reconstructor": push(Calls("copyreg._reconstructor", Calls("os.system", TOUCH), None, None)),
    "nested in a state": push(Calls("argparse.Namespace")) + push({"x": SYSTEM, "lr": 0.1}) + b"b",
    "nested in arguments": push(Calls("collections.OrderedDict", [["a", SYSTEM]])),
    "a rebuilt tensor of a function": push(
        Calls("torch._tensor._rebuild_from_type_v2", Calls("os.system"), 1, (TOUCH,), {})
    ),
    "quantised": push(Calls("torch._utils._rebuild_qtensor", 1, 2, 3)),
    "sparse": push(Calls("torch._utils._rebuild_sparse_tensor", 1, 2)),
    "gigabytes": push(Calls("builtins.bytearray", 10**12)),
    "a tensor by its size": push(Calls("torch.Tensor", 10**12)),
    "array of objects": push(Calls("numpy.core.multiarray._reconstruct", 1, (0,), b"b")),
}


def write(folder: Path, value: bytes, form: str = "pickle") -> Path:
    """The value beside a weight, in a plain pickle, a PyTorch zip or PyTorch's legacy format."""
    content = whole(b"}(", text("weight"), push(WEIGHT), text("evil"), value, b"u")
    path = folder / f"{form}.pt"
    if form == "zip":
        return write_zip(path, content)
    legacy = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(legacy + content + pickle.dumps([], 2) if form == "legacy" else content)
    return path


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_pickle_would_run_is_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, HOSTILE[name], form)
    found = read_weights(path)
    assert found.tree["weight"] == WEIGHT
    evil = found.tree["evil"]
    assert isinstance(evil, (Inert, list, dict))
    assert found.refused or name in ("reconstructor", "gigabytes", "array of objects", "a tensor by its size")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_list_is_dangerous(tmp_path: Path) -> None:
    """Python's own pickle runs it: a stand-in shows that nothing else makes the canary."""
    path = write(tmp_path, push(Calls("os.system", f"touch {tmp_path}/canary")))
    pickle.loads(path.read_bytes())
    assert (tmp_path / "canary").exists()


WATCHED = """
import json, sys
from pathlib import Path
import encodings.cp437  # of names in zip archives
import torch, numpy
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.reading import read_weights
read_weights(Path(sys.argv[2]))  # what is imported later is imported by now
seen, bad = [], ("import", "exec", "compile", "os.system", "subprocess.Popen", "os.exec", "os.fork", "socket.connect",
                 "pickle.find_class", "ctypes.dlopen", "os.remove", "os.mkdir", "os.rename", "shutil.copyfile")
def watch(event, args):
    writes = event == "open" and (not isinstance(args[1], str) or set(args[1]) & set("wax+") or args[2] & 3)
    if event in bad or writes:
        seen.append([event, str(args)[:200]])
sys.addaudithook(watch)
files = sorted(Path(sys.argv[1]).iterdir())
read = 0
for file in files:
    try:
        read_weights(file)
    except CheckpointError:
        pass
    read += 1
found = [each for each in seen if "robust_transfer" not in str(each)]
print(json.dumps([read, found]))
"""


def test_an_audit_hook_sees_nothing_but_reading(tmp_path: Path) -> None:
    """Imports, code, processes, files opened for writing: the interpreter itself tells of each."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for form in ("pickle", "zip", "legacy"):
        for index, value in enumerate(HOSTILE.values()):
            write(folder, value, form).rename(folder / f"{form}_{index}.pt")
    for index, content in enumerate(BROKEN.values()):
        (folder / f"broken_{index}.pt").write_bytes(content)
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    command = [sys.executable, "-c", WATCHED, str(folder), str(tmp_path / "good.pt")]
    done = subprocess.run(command, capture_output=True, text=True, env=with_helpers(), cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    read, seen = json.loads(done.stdout)
    assert read == 3 * len(HOSTILE) + len(BROKEN)
    assert seen == []
    assert {each.name for each in tmp_path.iterdir()} == {"hostile", "good.pt"}


# What cannot be a pickle of weights, and words of the sentence that says so.
BROKEN: dict[str, bytes] = {
    "more than": whole(LAUGHS),
    "unfold": whole(LAUGHS.replace(b"](h\x01", b"(h\x01").replace(b"h\x01e", b"h\x01t")),
    "nested deeper": whole(b"]" * 100_000 + b"a" * 99_999),
    "contains itself": whole(b"]q\x00h\x00a"),
    "again and again": whole(
        b"cbuiltins\nlist\nq\x00](" + b"N" * 100_000 + b"eq\x01\x85q\x02](" + b"h\x00h\x02R" * 900 + b"e"
    ),
    "extension codes": whole(b"\x82\x01"),
    "extension codes, four bytes": whole(b"\x84\x01\x00\x00\x00"),
    "out-of-band": whole(b"\x97"),
    "outside of it": whole(text("x") + b"Q"),
    "takes what is not there": whole(b"0"),
    "no end": b"\x80\x02}",
    "behind its pickle": whole(b"N") + whole(b"N"),
    "cannot be read: a memo that is empty": whole(b"h\x07"),
    "cannot be read: cut off in a text": b"\x80\x02X\xff\xff\xff\x7fabc",
    "cannot be read: a huge length": b"\x80\x04\x8d" + struct.pack("<Q", 2**63 - 1) + b"abc",
    "protocol 9": b"\x80\x09N.",
    "calls what is no function": whole(b"K\x01)R"),
    "calls with no arguments": whole(b"cos\nsystem\nK\x01R"),
    "gives items to a str": whole(text("x") + text("y") + b"K\x01s"),
    "gives attributes to a str": whole(text("x") + b"}b"),
    "gives elements to a dict": whole(b"}K\x01a"),
    "a key without a value": whole(b"}(K\x01u"),
    "names what is no name": whole(b"K\x01K\x02\x93"),
    "names more than": whole(b"](" + b"".join(b"cm\nf%d\n" % i for i in range(2000)) + b"e"),
    "says that an array has bytes": whole(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R("
        b"K\x01(M\xff\xff\x8a\x07\x00\x00\x00\x00\x00\x00\x10tcnumpy\ndtype\n("
        + text("f4")
        + b"K\x00K\x01tR\x89C\x04abcdtb"
    ),
    "a number without bytes": whole(
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"K\x00K\x01tRC\x02abtR"
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_pickle_of_weights_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(BROKEN[name])
    with pytest.raises(CheckpointError, match="is damaged or made to do harm") as told:
        read_weights(path)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400 + len(str(path))


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    """Billions of values and terabytes of bytes, described by kilobytes. Linux counts the peak in KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (
        LAUGHS,
        HOSTILE["gigabytes"],
        HOSTILE["a tensor by its size"],
        *(BROKEN[k][2:-1] for k in list(BROKEN)[:5]),
    ):
        (tmp_path / "x.pkl").write_bytes(whole(content))
        with suppress(CheckpointError):
            assert isinstance(read_weights(tmp_path / "x.pkl").tree, Inert)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


LIES = {
    "reaches beyond": tensor(storage("0", 6), 4, (3,), (1,)),
    "reaches beyond the end by strides": tensor(storage("0", 6), 0, (2, 3), (6, 1)),
    "speaks of 4,000": tensor(storage("0", 1000), 0, (10, 100), (100, 1)),
    "negative": tensor(storage("0", 6), -1, (2,), (1,)),
    "negative shape": tensor(storage("0", 6), 0, (-2,), (1,)),
    "negative stride": tensor(storage("0", 6), 5, (2,), (-1,)),
    "a storage of -1": tensor(storage("0", -1), 0, (1,), (1,)),
    "a storage of a huge": tensor(storage("0", 2**61), 0, (1,), (1,)),
    "huge": tensor(storage("0", 6), 0, (2**63,), (0,)),
    "more elements than its storage": tensor(storage("0", 6), 0, (10**6, 10**6), (0, 0)),
    "more elements, overlapping": tensor(storage("0", 6), 0, (4, 3), (1, 1)),
    "lacks the member": tensor(storage("../../etc/passwd", 6), 0, (1,), (1,)),
    "2 dimensions and 1": tensor(storage("0", 6), 0, (2, 3), (1,)),
    "no storage": tensor(b"N", 0, (1,), (1,)),
    "no storage of PyTorch": b"(" + text("module") + b"NNNNtQ",
    "a storage that is none": b"(" + text("storage") + b"NNNNtQ",
}


@pytest.mark.parametrize("name", LIES)
def test_tensors_that_lie(tmp_path: Path, name: str) -> None:
    path = write_zip(tmp_path / "x.pt", whole(b"}", text("a"), LIES[name], b"s"), _0=bytes(24))
    with pytest.raises(CheckpointError, match="is damaged or made to do harm"):
        read_weights(path)


def test_one_storage_a_thousand_times_is_refused(tmp_path: Path) -> None:
    """Views cost nothing; whoever copies them would pay for each."""
    place = storage("0", 2**20) + b"q\x01"
    first = tensor(place, 0, (2**20,), (1,))
    more = b"".join(tensor(b"h\x01", 0, (2**20,), (1,)) for _ in range(200))
    path = write_zip(tmp_path / "x.pt", whole(b"](", first, more, b"e"), _0=bytes(2**22))
    with pytest.raises(CheckpointError, match="32 times as many bytes"):
        read_weights(path)


def test_tensors_that_share_a_storage_share_it_still(tmp_path: Path) -> None:
    whole_tensor = torch.arange(12.0).view(3, 4)
    (tmp_path / "x.pt").write_bytes(
        saved({"a": whole_tensor, "b": whole_tensor.t(), "c": whole_tensor[1:], "d": whole_tensor})
    )
    tree: dict[str, Any] = read_weights(tmp_path / "x.pt").tree
    assert torch.equal(tree["b"], whole_tensor.t())
    assert tree["b"].stride() == (1, 4)
    assert tree["a"].untyped_storage().data_ptr() == tree["c"].untyped_storage().data_ptr()
    tree["a"][1, 1] = 99
    assert tree["c"][0, 1] == tree["d"][1, 1] == 99
    assert read_weights(tmp_path / "x.pt").tree["a"][1, 1] == 5  # the file is as it was


def test_what_was_stated_stays_readable(tmp_path: Path) -> None:
    path = write(tmp_path, HOSTILE["nested in a state"])
    found = read_weights(path)
    evil = found.tree["evil"]
    assert (evil.name, evil.state["lr"], evil.state["x"].name) == ("argparse.Namespace", 0.1, "os.system")
    assert found.refused == ("argparse.Namespace", "os.system")
