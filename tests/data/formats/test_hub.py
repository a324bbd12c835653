"""``hf:`` data sets, against a small Hub of our own on this machine, and the ways in which the real one fails."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from image_tables import PETS, found
from images import encoded, picture, write_parquet

from robust_transfer.data import load_task
from robust_transfer.errors import DataError

COMMIT, OLDER = "a" * 40, "b" * 40
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, "refs/pr/1": OLDER, OLDER: OLDER}


class ConnectError(Exception):
    """As HTTP libraries call theirs, which share no base with Python's."""


class ReadTimeout(Exception):  # noqa: N818
    """The same."""


PROGRAM = """
import json, sys
from robust_transfer.data import load_task
from robust_transfer.errors import DataError
for name in sys.argv[1:]:
    try:
        task = load_task(name, shots=2)
        print(json.dumps([task.name, task.class_names, len(task.train), len(task.test), task.test.size]))
    except DataError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The address of a server that knows one data set, acme/pets, as it is and as it was."""
    commits: dict[str, dict[str, bytes]] = {COMMIT: {}, OLDER: {}}
    for commit, names in ((COMMIT, ["cat", "dog"]), (OLDER, ["ant", "bee"])):
        for split, n in (("train", 8), ("test", 4)):
            path = write_parquet(tmp_path / f"{split}.parquet", [0, 1] * (n // 2), names=names)
            commits[commit][path.name] = path.read_bytes()

    class Hub(http.server.BaseHTTPRequestHandler):
        commit = COMMIT

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            if "acme/pets" not in path:
                return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            asked = re.search(r"/(?:revision|resolve|tree|paths-info)/(refs/pr/1|[^/]+)", path.replace("%2F", "/"))
            self.commit = REVISIONS.get(asked[1] if asked else "main", "")
            if not self.commit:
                return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = commits[self.commit]
            if path.startswith("/api/"):
                listing = [{"type": "file", "path": n, "size": len(c), "oid": "1" * 40} for n, c in files.items()]
                info = {"id": "acme/pets", "sha": self.commit, "siblings": [{"rfilename": name} for name in files]}
                return self._answer(200, json.dumps(listing if "/tree/" in path else info).encode(), {})
            content = files.get(path.rsplit("/", 1)[1])
            if content is None:
                return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return self._answer(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})

        do_HEAD = do_POST = do_GET  # noqa: N815

        def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), "X-Repo-Commit": self.commit, **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_loads_from_a_hub(hub: str, tmp_path: Path) -> None:
    # the Hub's address is read when its client is imported, hence another process
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "NO_PROXY": "127.0.0.1"}
    older = [f"hf:acme/pets@{revision}" for revision in ("v1", "refs/pr/1", OLDER)]
    names = ["hf:acme/pets", "hf:acme/pets:big", "hf:acme/plants", "hf:acme/pets@v2", "hf:acme/pets:default@v1", *older]
    command = [sys.executable, "-c", PROGRAM, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found, no_config, not_there, no_revision, *then = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == ["hf:acme/pets", ["cat", "dog"], 4, 4, 8]
    assert no_config.startswith("hf:acme/pets:big needs a configuration: write hf:OWNER/NAME:CONFIG (")
    assert no_revision.startswith(
        "hf:acme/pets@v2 is not on the Hub as of 'v2': give a branch, a tag or a commit of it"
    )
    assert then == [[name, ["ant", "bee"], 4, 4, 8] for name in names[4:]]
    assert not_there.startswith("hf:acme/plants is not on the Hub, or not open to you: check the name")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
            "the Hugging Face Hub was not reached",
        ),
        (ConnectError("[Errno -2] Name or service not known"), "the Hugging Face Hub was not reached"),
        (ReadTimeout("timed out"), "the Hugging Face Hub was not reached"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist"), "hf:a/b is not on the Hub"),
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['x', 'y']"),
            "hf:a/b needs a config",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found b.py"),
            "cannot load hf:a/b (RuntimeError: Dataset",
        ),
        (KeyError(), "cannot load hf:a/b (KeyError: KeyError)"),
    ],
)
def test_failures_are_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError) as raised:
        load_task("hf:a/b")
    assert str(raised.value).startswith(expected)
    assert "\n" not in str(raised.value)
    assert raised.value.__suppress_context__


def fake_hub(monkeypatch: pytest.MonkeyPatch, **splits: datasets.Dataset) -> list[tuple[str | None, ...]]:
    asked: list[tuple[str | None, ...]] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, config, revision))
        return datasets.DatasetDict(splits)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def stored(tmp_path: Path, labels: list[int], **columns: str) -> datasets.Dataset:
    path = write_parquet(tmp_path / f"{len(labels)}.parquet", labels, names=["cat", "dog"], **columns)  # type: ignore[arg-type]
    return datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))


def test_splits_and_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    train, other = stored(tmp_path, [0, 1] * 10), stored(tmp_path, [0, 1] * 2)
    asked = fake_hub(monkeypatch, unsupervised=other, validation=other, train=train)
    task = load_task("hf:acme/pets:small")
    assert asked == [("acme/pets", "small", None)]
    assert load_task("hf:acme/pets:a.b-c@refs/convert/parquet").name == "hf:acme/pets:a.b-c@refs/convert/parquet"
    assert asked[1] == ("acme/pets", "a.b-c", "refs/convert/parquet")
    assert (len(task.train) + len(task.val), len(task.test)) == (20, 4)
    assert 2 <= len(task.val) <= 5
    fake_hub(monkeypatch, unsupervised=train)
    with pytest.raises(DataError, match="hf:acme/pets has no train, validation or test split, only 'unsupervised'"):
        load_task("hf:acme/pets")
    fake_hub(monkeypatch, train=train, test=stored(tmp_path, [0, 1], label="kind"))
    with pytest.raises(
        DataError, match=r"hf:acme/pets, test split: there is no column 'label' \(columns: image, kind\)"
    ):
        load_task("hf:acme/pets")


def test_a_column_of_splits_parts_a_data_set_of_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is given; else it is said. Between several splits it may not deny what they are called."""
    said = ["train", "test", "validation", "train"] * 2
    features = {"image": datasets.Image(), "label": datasets.Value("string"), "phase": datasets.Value("string")}
    images = [{"bytes": encoded(picture(0, i)), "path": None} for i in range(8)]
    rows = {"image": images, "label": PETS, "phase": said}
    stored = datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    def given(**splits: Any) -> None:
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(splits))

    given(train=stored)
    roles = ["train", "test", "val", "train"] * 2
    assert found(load_task("hf:a/b", split_column="phase")) == {i: (roles[i], PETS[i]) for i in range(8)}
    [note] = [note for note in load_task("hf:a/b", val=0).notes if "column" in note]
    assert note.startswith("the column 'phase' of hf:a/b seems to say the splits, and is not used")
    given(train=stored.select([0, 3, 4, 7]).flatten_indices(), test=stored.select([1, 5]).flatten_indices())
    task = load_task("hf:a/b", val=0, split_column="phase")
    assert (len(task.train), len(task.test), task.notes) == (4, 2, ())
    given(train=stored.select([0, 3, 4, 7]).flatten_indices(), test=stored.select([2, 6]).flatten_indices())
    with pytest.raises(DataError, match="hf:a/b is called as test is, and its column 'phase' says validation"):
        load_task("hf:a/b", split_column="phase")
    with pytest.raises(
        DataError, match=r"hf:a/b, train split: there is no column 'fold' \(columns: image, label, phase\)"
    ):
        load_task("hf:a/b", split_column="fold")
