"""Archives of data sets: what they give is what the folder gives that they were packed of."""

from __future__ import annotations

import os
import pickle
import tarfile
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from archives import ARCHIVES, add, contents, pack
from image_tables import PETS as PETS_IN_TURN
from image_tables import WRITERS, found, write
from images import encoded, picture, write_classes, write_parquet

from robust_transfer.data import Task, load_task
from robust_transfer.data.formats.archive import ArchiveTree, open_archive
from robust_transfer.errors import DataError

PETS = {"cat": 4, "dog": 4}


def assert_same(one: Task, other: Task) -> None:
    assert (one.name, one.class_names) == (other.name, other.class_names)
    for a, b in ((one.train, other.train), (one.val, other.val), (one.test, other.test)):
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.images(), b.images())
        assert a.hash == b.hash


def message(path: Path) -> str:
    with pytest.raises(DataError) as error:
        load_task(path, val=0)
    assert "\n" not in str(error.value)
    return str(error.value)


def some(classes: Mapping[str, int] = PETS, above: str = "") -> dict[str, bytes]:
    return {
        f"{above}{name}/{i}.png": encoded(picture(label, i))
        for label, (name, count) in enumerate(classes.items())
        for i in range(count)
    }


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize(
    "layout", ["{split}/{name}", "pets/{split}/{name}", "./{split}/{name}", "{name}/{split}", "sketch/{split}/{name}"]
)
def test_layouts_of_image_folders(tmp_path: Path, kind: str, layout: str) -> None:
    folder = tmp_path / "folder" / "pets"
    for split, count in (("train", 5), ("test", 3)):
        for name in PETS:
            write_classes(folder / layout.format(split=split, name=name), {".": count}) if "/" in layout else None
    packed = pack(tmp_path / f"pets.{kind}", contents(folder))
    before = sorted(tmp_path.rglob("*"))
    task = load_task(packed, val=0)
    assert_same(task, load_task(folder, val=0))
    assert (len(task.train), len(task.test)) == (10, 6)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_and_its_images(tmp_path: Path, kind: str, suffix: str) -> None:
    above = "set/" if kind in ("tar", "tar.xz") else ""
    files = {f"{above}images/{i}.png": encoded(picture(0, i)) for i in range(9)}
    paths = [f"images/{i}.png" for i in range(6)] + ["images/x/../6.png", "./images/./7.png"]
    columns = {"file_name": paths, "label": PETS_IN_TURN, "phase": ["train", "train", "test", "test"] * 2}
    files[f"{above}metadata{suffix}"] = write(tmp_path / f"t{suffix}", columns).read_bytes()
    before = sorted(tmp_path.rglob("*"))
    path = pack(tmp_path / f"pets.{kind}", files)
    task = load_task(path, val=0, split_column="phase")
    assert found(task) == {i: ("test" if i % 4 > 1 else "train", name) for i, name in enumerate(PETS_IN_TURN)}
    assert "left out: 1 images that are in no row of a table (such as '8.png')" in task.notes
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path]), "nothing is unpacked"


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("written", ["../0.png", "/etc/0.png", "a/../../0.png", "..\\0.png"])
def test_a_table_does_not_lead_out_of_its_archive(tmp_path: Path, suffix: str, written: str) -> None:
    (tmp_path / "0.png").write_bytes(encoded(picture(0, 0)))
    table = write(tmp_path / f"t{suffix}", {"image": [written], "label": ["a"]}).read_bytes()
    path = pack(tmp_path / "t.zip", {f"t{suffix}": table, "0.png": b""})
    assert f"names {written!r}, and it " in message(path)
    assert ("leads out of the archive" in message(path)) == (not written.startswith("/"))


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_neither_does_a_link(tmp_path: Path, suffix: str, kind: str) -> None:
    """To an image, or in the place of the table itself."""
    (tmp_path / "0.png").write_bytes(encoded(picture(0, 0)))
    table = write(tmp_path / f"t{suffix}", {"image": ["0.png"], "label": ["a"]})
    path = pack(tmp_path / f"a.{kind}", {table.name: table.read_bytes()}, {"0.png": "../0.png"})
    assert f"1 of the 1 images that {path / table.name} names are not there" in message(path)
    path = pack(tmp_path / f"b.{kind}", {"0.png": b""}, {table.name: f"../{table.name}"})
    assert message(path) == (
        f"cannot read {path / table.name}, it is among the links that lead out of the archive: pack it again"
    )


@pytest.mark.parametrize("kind", ARCHIVES)
def test_what_systems_leave_in_archives_is_left_out_and_said(tmp_path: Path, kind: str) -> None:
    strays = {"__MACOSX/cat/._0.png": b"x", "cat/._1.png": b"x", "cat/Thumbs.db": b"x", "cat/notes.txt": b"x"}
    task = load_task(pack(tmp_path / f"pets.{kind}", {**some(), **strays}), val=0)
    assert len(task.train) + len(task.test) == 8
    assert [note for note in task.notes if note.startswith("left out")] == [
        "left out: 1 files of systems and programs (such as 'Thumbs.db')",
        "left out: 1 files with the extension .txt (such as 'notes.txt')",
        "left out: 1 hidden files, and resource forks (such as '._1.png')",
        "left out: 1 hidden folders, and thumbnails of systems and programs (such as '__MACOSX')",
    ]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_links_are_followed_inside_and_never_out(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret.png").write_bytes(encoded(picture(9, 9)))
    links = {
        "cat/same.png": "../dog/0.png",
        "cat/chain.png": "same.png",
        "dog/out.png": "../../secret.png",
        "dog/absolute.png": str(tmp_path / "secret.png"),
        "dog/nowhere.png": "none.png",
        "dog/circle.png": "circle.png",
        "dog/all": "../cat",
    }
    task = load_task(pack(tmp_path / f"pets.{kind}", some(), links), val=0)
    assert sum(len(part) for part in (task.train, task.test)) == 8 + 2
    left = {note for note in task.notes if note.startswith("left out")}
    assert left == {
        "left out: 2 links that lead out of the archive (such as 'absolute.png')",
        "left out: 2 links that lead nowhere (such as 'circle.png')",
        "left out: 1 links to folders in the archive (such as 'all')",
    }


def test_hard_links_and_devices_of_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        for name, content in some().items():
            add(tar, f"./{name}", content)
        add(tar, "./dog/hard.png", b"", type=tarfile.LNKTYPE, linkname="./cat/0.png")
        add(tar, "./dog/pipe.png", b"", type=tarfile.FIFOTYPE)
    task = load_task(tmp_path / "pets.tar", val=0)
    assert sum(len(part) for part in (task.train, task.test)) == 9
    assert "left out: 1 devices, pipes and sockets (such as 'pipe.png')" in task.notes


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["../x.png", "/x.png", "cat/../../x.png", "C:/x.png", "cat/../dog/0.png"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = pack(tmp_path / f"pets.{kind}", {**some(), name: b"x"})
    assert message(path) == f"{path} holds {name!r}, a path that leads out of it: pack it again without such paths"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("again", ["cat/0.png", "./cat//0.png"])
def test_a_path_that_is_there_twice_is_refused(tmp_path: Path, kind: str, again: str) -> None:
    path = pack(tmp_path / f"pets.{kind}", some())
    if kind == "zip":
        import zipfile

        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(again, b"x")
    else:
        files = some()
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as tar:
            for name, content in [*files.items(), (again, b"x")]:
                add(tar, name, content)
    assert message(path) == f"{path} holds 'cat/0.png' twice: unpack it, and give the folder"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_class_names_of_any_letters(tmp_path: Path, kind: str) -> None:
    task = load_task(pack(tmp_path / f"pets.{kind}", some({"\u732b": 3, "caf\u00e9": 3})), val=0)
    assert task.class_names == ("caf\u00e9", "\u732b")


def test_a_class_name_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pets.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name, content in some({"caf\u00e9": 3, "dog": 3}).items():
            add(tar, name, content)
    assert message(tmp_path / "pets.tar") == "the name of the class folder 'caf\ufffd' is not UTF-8: rename it"


def test_a_path_that_lies_too_deep_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "pets.tar", {**some(), "x/" * 5000 + "0.png": b"x"})
    assert "which lies too deep below other folders: unpack it" in message(path)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_that_are_damaged(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"pets.{kind}", some())
    whole = path.read_bytes()
    for keep in (0, 3, len(whole) // 2):
        path.write_bytes(whole[:keep])
        assert "damaged or no" in message(path)
    path.write_bytes(b"hello" * 1000)
    assert "damaged or no" in message(path)


def test_a_kind_is_told_by_its_bytes(tmp_path: Path) -> None:
    for real, called in (("zip", "tar"), ("tar.gz", "tar"), ("tar", "tar.gz"), ("tar.xz", "tgz")):
        pack(tmp_path / f"a.{real}", some()).rename(tmp_path / f"b.{called}")
        task = load_task(tmp_path / f"b.{called}", val=0)
        assert (task.name, task.class_names) == ("b", ("cat", "dog"))


def test_parquet_files_that_hold_images_are_to_be_unpacked(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "train.parquet", [0, 1]).read_bytes()
    path = pack(tmp_path / "a.zip", {"train.parquet": table})
    assert message(path) == (
        f"{path} holds parquet files with no column of paths, and those with images in them are read from folders: "
        "unpack it, and give the folder"
    )
    path = pack(tmp_path / "a.zip", {"train.parquet": table[:-9]})
    assert message(path).startswith(f"cannot read {path / 'train.parquet'}, it is damaged or no parquet file (")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_images_are_read_one_by_one_from_any_thread_and_process(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = some({"cat": 40, "dog": 40})
    path = pack(tmp_path / f"pets.{kind}", files)
    at_once = load_task(path, val=0)
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", 0)
    torch.set_num_threads(4)
    streamed = load_task(path, val=0)
    assert streamed.train.streamed
    assert_same(streamed, at_once)
    archive = open_archive(path)
    wrong: list[str] = []

    def read(again: object) -> None:
        wrong.extend(name for name in files if again.read(name) != files[name])  # type: ignore[attr-defined]

    threads = [
        threading.Thread(target=read, args=(each,)) for each in (archive, archive, pickle.loads(pickle.dumps(archive)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_archive_that_changes_is_noticed(tmp_path: Path) -> None:
    path = pack(tmp_path / "pets.tar", some())
    tree = ArchiveTree(open_archive(path))
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match="the archive has changed since it was opened"):
        tree.read(path / "cat" / "0.png")


def test_a_member_that_says_to_be_huge_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.data.formats.members.MOST_BYTES", 1000)
    for kind in ("zip", "tar"):
        path = pack(tmp_path / f"pets.{kind}", {**some(), "cat/big.png": bytes(1001)})
        assert message(path) == (
            f"cannot decode {path}/cat/big.png (it says to hold 1001 bytes, more than the 1000 that are read): repair it, or "
            "remove it from the data"
        )


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_compressed_tar_is_kept_in_memory_up_to_the_limit(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / f"pets.{kind}", {**some(), "bomb.bin": bytes(10**6)})
    assert len(load_task(path, val=0).class_names) == 2
    monkeypatch.setattr("robust_transfer.data.split.MEMORY_LIMIT", 10**6)
    said = f"{path} is compressed, and more than the 1000000 bytes that are kept in memory come out of it: unpack it"
    assert message(path).startswith(said)
