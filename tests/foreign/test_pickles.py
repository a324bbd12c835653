"""Pickles that would do harm, and pickles that are broken: a stand-in or one sentence, and nothing is executed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from children import with_helpers
from foreign_files import Calls, push, saved, storage, tensor, text, whole, write_zip
from foreign_hostile import BROKEN, HOSTILE, LAUGHS, LIES, WEIGHT, write

from robust_transfer.errors import CheckpointError
from robust_transfer.foreign.pickles import MOST_MADE
from robust_transfer.foreign.reading import Inert, read_weights


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


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_pickle_of_weights_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(BROKEN[name])
    with pytest.raises(CheckpointError, match="is damaged or made to do harm") as told:
        read_weights(path)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400 + len(str(path))


BOMBED = """
import sys
from pathlib import Path
from children import peak
from robust_transfer.errors import CheckpointError
from robust_transfer.foreign import pickles
from robust_transfer.foreign.reading import read_weights
pickles.MOST_MADE = int(sys.argv[1])
read_weights(Path(sys.argv[2]))  # what is imported later is imported by now
before, kinds = peak(), []
for file in sys.argv[3:]:
    try:
        kinds.append(type(read_weights(Path(file)).tree).__name__)
    except CheckpointError:
        kinds.append("refused")
print(peak() - before, *kinds)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    """Billions of values and terabytes of bytes, described by kilobytes: no more than the copies that a pickle may make take.

    These are 2^24 references, 128 MiB.
    """
    some = [LAUGHS, HOSTILE["gigabytes"], HOSTILE["a tensor by its size"], *(BROKEN[k][2:-1] for k in list(BROKEN)[:5])]
    bombs = []
    for index, content in enumerate(some):
        bombs.append(tmp_path / f"{index}.pkl")
        bombs[-1].write_bytes(whole(content))
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    grown, kinds = growth(MOST_MADE, tmp_path / "good.pt", *bombs)
    assert set(kinds) <= {"Inert", "refused"}
    assert "Inert" in kinds
    assert grown < 160 * 2**20
    copies = tmp_path / "copies.pkl"
    copies.write_bytes(BROKEN["again and again"])
    assert growth(4 * MOST_MADE, tmp_path / "good.pt", copies)[0] > 320 * 2**20, "or the test could not see it"


def growth(copied: int, *files: Path) -> tuple[int, list[str]]:
    """Bytes by which the peak of a process that has read the first file grows as it reads the others; what these are.

    ``copied``: how many elements a pickle may copy there.
    """
    command = [sys.executable, "-c", BOMBED, str(copied), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, env=with_helpers(), check=True)
    grown, *kinds = done.stdout.split()
    return int(grown), kinds


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
