"""Every format as its own library writes it, and files that are something else: one sentence each."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import push, saved, storage, tensor, text, whole, write_zip
from foreign_others import OTHERS, TENSORS, ZIP
from safetensors.torch import save, save_file
from torch import Tensor, nn

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.reading import Inert, module_state, read_weights


def same(found: Any, wanted: dict[str, Tensor]) -> bool:
    return list(found) == list(wanted) and all(
        type(found[k]) is Tensor and found[k].dtype == v.dtype and torch.equal(found[k], v) for k, v in wanted.items()
    )


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_pytorch(tmp_path: Path, legacy: bool) -> None:
    layouts = {
        "transposed": torch.rand(3, 4).t(),
        "part": torch.rand(10)[3:7],
        "expanded": torch.rand(3, 1).expand(3, 4),
    }
    parameter = {"parameter": nn.Parameter(torch.rand(2))}
    path = tmp_path / "x.pth.tar"
    path.write_bytes(saved({**TENSORS, **layouts, **parameter}, _use_new_zipfile_serialization=not legacy))
    found = read_weights(path)
    reference = torch.load(path, weights_only=True)
    assert same(found.tree, {**TENSORS, **layouts, "parameter": parameter["parameter"].data})
    assert all(found.tree[k].stride() == reference[k].stride() for k in reference)
    assert (found.format, found.refused) == ("PyTorch legacy" if legacy else "PyTorch zip", ())


class Node:
    __slots__ = ("lr",)

    def __init__(self, lr: float) -> None:
        self.lr = lr


class Settings(dict[str, Any]):
    """What Lightning's AttributeDict, EasyDict and yacs' CfgNode are."""


@pytest.mark.parametrize("write", ["zip", "legacy", "pickle 0", "pickle 2", "pickle 4", "pickle 5"])
def test_a_training_file(tmp_path: Path, write: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net(torch.rand(2, 3, 5, 5)).sum().backward()
    optimiser = torch.optim.AdamW(net.parameters())
    optimiser.step()
    node = None if write == "pickle 0" else Node(0.5)  # which cannot have what has __slots__
    value = {
        "state_dict": net.state_dict(),
        "optimizer": optimiser.state_dict(),
        "schedule": torch.optim.lr_scheduler.StepLR(optimiser, 3),
        "args": argparse.Namespace(
            arch="resnet50", lr=0.1, nested={"eps": [4, 8]}, node=None if write == "pickle 0" else Node(0.5)
        ),
        "settings": Settings(epochs=3),
        "epoch": np.int64(7),
        "best": np.float64(0.5),
        "counts": defaultdict(int, {3: 4}),
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "array": np.arange(6, dtype=">i2").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([{}, []], dtype=object),
        "words": np.array(["a", "bc"]),
        "raw": b"bytes",
        "set": {3},
        "nothing": None,
        "huge": 10**30,
    }
    path = tmp_path / "x.ckpt"
    if write.startswith("pickle"):
        path.write_bytes(pickle.dumps(value, int(write[-1])))
    else:
        path.write_bytes(saved(value, _use_new_zipfile_serialization=write == "zip"))
    found = read_weights(path)
    tree = found.tree
    assert same(tree["state_dict"], net.state_dict())
    assert torch.equal(tree["optimizer"]["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])
    assert tree["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert tree["args"].name == "argparse.Namespace"
    assert {k: tree["args"].state[k] for k in ("arch", "lr", "nested")} == {
        "arch": "resnet50",
        "lr": 0.1,
        "nested": {"eps": [4, 8]},
    }
    assert tree["settings"].state == {"epochs": 3}
    assert tree["schedule"].state["step_size"] == 3
    assert (tree["epoch"], tree["best"], tree["counts"], tree["size"]) == (7, 0.5, {3: 4}, (2, 3))
    assert type(tree["epoch"]) is int
    assert tree["array"].tolist() == tree["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (tree["words"], tree["set"], tree["nothing"], tree["huge"]) == (["a", "bc"], [3], None, 10**30)
    for key, name in (
        ("dtype", "torch.float16"),
        ("device", "torch.device"),
        ("objects", "numpy.ndarray"),
        ("raw", "bytes"),
    ):
        assert isinstance(tree[key], Inert)
        assert tree[key].name == name
    assert {"argparse.Namespace", "torch.device", "torch.optim.lr_scheduler.StepLR"} <= set(found.refused)
    assert list(found.refused) == sorted(set(found.refused))
    if node is not None:
        assert tree["args"].state["node"].state == {"lr": 0.5}


def test_a_module_that_was_stored_whole_has_its_state(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(stem=nn.Conv2d(3, 4, 3), rest=nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())))
    net.register_buffer("mean", torch.ones(3))
    net.register_buffer("hidden", torch.ones(3), persistent=False)
    (tmp_path / "x.pt").write_bytes(saved({"net": net}))
    found = read_weights(tmp_path / "x.pt")
    assert "torch.nn.modules.container.Sequential" in found.refused
    state = module_state(found.tree["net"])
    assert state is not None
    wanted = net.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[k], wanted[k]) for k in wanted)
    assert module_state({"a": 1}) is None
    assert module_state(Inert("x")) is None


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_numpy(tmp_path: Path, compressed: bool) -> None:
    arrays: dict[str, Any] = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.eye(3, dtype="f4")),
        "c": np.array(3),
        "d": np.array("x"),
    }
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    write(tmp_path / "x.npz", o=np.array([{}], dtype=object), **arrays)
    found = read_weights(tmp_path / "x.npz")
    assert found.format == "NumPy archive"
    assert all(np.array_equal(found.tree[k].numpy(), arrays[k]) for k in "abc")
    assert found.tree["d"] == "x"
    assert found.tree["o"].name == "numpy.ndarray"
    np.save(tmp_path / "x.npy", arrays["a"])
    assert np.array_equal(read_weights(tmp_path / "x.npy").tree.numpy(), arrays["a"])


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_weights(tmp_path / "x.safetensors")
    assert found.tree.keys() == TENSORS.keys()
    assert same({k: found.tree[k] for k in TENSORS}, TENSORS)
    assert (found.format, found.metadata, found.refused) == ("safetensors", {"format": "pt"}, ())


def test_a_repacked_archive_and_views_of_the_file(tmp_path: Path) -> None:
    """Deflate is not what PyTorch writes, but what other tools make of it."""
    (tmp_path / "x.pt").write_bytes(saved(TENSORS))
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as old,
        zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert same(read_weights(tmp_path / "y.pt").tree, TENSORS)
    found = read_weights(tmp_path / "x.pt")
    found.tree["float32"].add_(1)  # a copy on write
    assert same(read_weights(tmp_path / "x.pt").tree, TENSORS)
    other = read_weights(tmp_path / "x.pt")
    other.release()
    assert same(other.tree, TENSORS)


def write_shards(folder: Path) -> Path:
    """As huggingface_hub writes them."""
    names = sorted(TENSORS)
    parts = {"model-00001-of-00002.safetensors": names[:5], "model-00002-of-00002.safetensors": names[5:]}
    for file, keys in parts.items():
        save_file({k: TENSORS[k] for k in keys}, folder / file, metadata={"format": "pt"})
    places = {key: file for file, keys in parts.items() for key in keys}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def test_weights_in_several_files(tmp_path: Path) -> None:
    index = write_shards(tmp_path)
    found = read_weights(index)
    assert same({k: found.tree[k] for k in TENSORS}, TENSORS)
    assert found.tree.keys() == TENSORS.keys()
    with pytest.raises(CheckpointError, match=r"is one of 2 files of weights: give model.safetensors.index.json"):
        read_weights(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / index.name).symlink_to(index)  # the cache of huggingface_hub is made of links
    for part in tmp_path.glob("*-of-*"):
        (tmp_path / "link" / part.name).symlink_to(part)
    assert read_weights(tmp_path / "link" / index.name).tree.keys() == TENSORS.keys()


def edited(index: Path, **places: str) -> None:
    content = json.loads(index.read_text())
    content["weight_map"].update(places)
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda index: (index.parent / "model-00002-of-00002.safetensors").unlink(),
            "names model-00002-of-.*, which is missing",
        ),
        (lambda index: edited(index, bool="../../etc/passwd"), "which is not beside it"),
        (lambda index: edited(index, bool="/etc/passwd"), "which is not beside it"),
        (lambda index: edited(index, bool=index.name), "which is not beside it"),
        (lambda index: edited(index, bool="model-00002-of-00002.safetensors"), "does not hold the tensors that"),
        (lambda index: edited(index, more="model-00002-of-00002.safetensors"), "does not hold the tensors that"),
        (
            lambda index: (index.parent / "model-00002-of-00002.safetensors").write_bytes(b"\x08" + bytes(20)),
            "is damaged|no format",
        ),
        (lambda index: index.write_text("{}"), "has no 'weight_map'"),
        (lambda index: index.write_text("[" * 100_000), "has no 'weight_map'"),
        (lambda index: index.write_text('{"weight_map": {}}'), "names no files"),
    ],
)
def test_weights_in_several_files_that_do_not_fit(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    index = write_shards(tmp_path)
    spoil(index)
    with pytest.raises(CheckpointError, match=message):
        read_weights(index)


@pytest.mark.parametrize("index", range(len(OTHERS)), ids=[message for _, _, message in OTHERS])
def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path, index: int) -> None:
    name, content, message = OTHERS[index]
    (tmp_path / name).write_bytes(content() if callable(content) else content)
    with pytest.raises(CheckpointError, match=message) as told:
        read_weights(tmp_path / name)
    assert "\n" not in str(told.value)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_places_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        read_weights(tmp_path / "x.pt")
    (tmp_path / "link.pt").symlink_to("nowhere.pt")
    with pytest.raises(CheckpointError, match=r"is a link to nowhere.pt, which is not there"):
        read_weights(tmp_path / "link.pt")
    (tmp_path / "self.pt").symlink_to("self.pt")
    with pytest.raises(CheckpointError, match="it is a link to itself"):
        read_weights(tmp_path / "self.pt")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match="is no regular file"):
        read_weights(tmp_path / "fifo")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "net.pth").write_bytes(ZIP)
    with pytest.raises(CheckpointError, match=r"is a folder: give the file in it .*net.pth"):
        read_weights(folder)
    (folder / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a model of TensorFlow"):
        read_weights(folder)
    with pytest.raises(CheckpointError, match="cannot read"):
        read_weights(Path("x\0y"))


def test_every_cut_of_a_small_file_is_a_sentence_or_the_file(tmp_path: Path) -> None:
    """Wherever a download broke off, and whatever byte is wrong, nothing else than an error of ours comes."""
    small = {"a": torch.arange(2.0), "b": 3}
    for content in (saved(small), saved(small, _use_new_zipfile_serialization=False), save({"a": torch.arange(2.0)})):
        step = max(len(content) // 60, 1)
        spoiled = [content[:cut] for cut in range(1, len(content), step)]
        spoiled += [
            content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :] for at in range(0, len(content), step)
        ]
        for each in spoiled:
            (tmp_path / "x.pt").write_bytes(each)
            with suppress(CheckpointError):
                read_weights(tmp_path / "x.pt")


def test_text_of_python_2(tmp_path: Path) -> None:
    """Its strings are bytes, in arrays too; long ones are as right as short ones."""
    array = np.arange(5000, dtype="<i2")
    raw = array.tobytes()
    built = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + push((0,)) + b"U\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02i2K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    built += b"(K\x01" + push((5000,)) + kind + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    (tmp_path / "x.pkl").write_bytes(whole(b"}U\x01a", built, b"s"))
    assert torch.equal(read_weights(tmp_path / "x.pkl").tree["a"], torch.from_numpy(array))


def test_a_storage_that_is_read_as_another_type_is_checked(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "x.pt",
        whole(b"}", text("a"), tensor(storage("0", 6, "DoubleStorage"), 0, (6,), (1,)), b"s"),
        _0=bytes(24),
    )
    with pytest.raises(CheckpointError, match="has 24 bytes, and its tensor declares 48"):
        read_weights(path)
