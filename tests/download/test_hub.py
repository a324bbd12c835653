"""``hf:`` names, against a small Hub of our own on this machine: pinned, offline, gated, sharded, damaged."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from small_hub import COMMIT, OLDER, Hub, offline, small_hub

from robust_transfer.download import fetch
from robust_transfer.errors import CheckpointError

WEIGHTS = b"weights" * 1000
SHA = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with small_hub(monkeypatch, tmp_path / "hub") as found:
        yield found


def test_a_repository_is_pinned_to_its_commit(hub: Hub, tmp_path: Path) -> None:
    config = b'{"architecture": "resnet50"}'
    hub.repositories["acme/net"] = {
        "model.safetensors": WEIGHTS,
        "config.json": config,
        "README.md": b"#",
        "model.bin": b"",
    }
    found = fetch("hf:acme/net", hidden=True)
    assert (found.address, found.revision) == (f"hf:acme/net@{COMMIT}/model.safetensors", COMMIT)
    assert (found.sha256, found.name) == (SHA, "model.safetensors")
    assert found.path.read_bytes() == WEIGHTS
    assert found.path.is_relative_to(tmp_path / "hub")
    assert [path.name for path in found.beside] == ["config.json"]
    assert found.beside[0].read_bytes() == config
    assert found.beside[0].parent == found.path.parent
    assert not any(path.endswith(("README.md", "model.bin")) for path in hub.asked), "no more than is needed"
    older = fetch("hf:acme/net@v1/model.safetensors", hidden=True, folder=tmp_path / "mine")
    assert (older.address, older.revision) == (f"hf:acme/net@{OLDER}/model.safetensors", OLDER)
    assert older.path.is_relative_to(tmp_path / "mine")
    with pytest.raises(
        CheckpointError, match=rf"hf:acme/net@{COMMIT}/model\.safetensors has the sha256 {SHA}, and deadbeef"
    ):
        fetch("hf:acme/net", hidden=True, sha256="deadbeef")
    assert fetch(found.address, hidden=True) == found


def test_a_file_in_a_folder(hub: Hub) -> None:
    hub.repositories["acme/nets"] = {"a/x.pt": WEIGHTS, "a/config.json": b"{}", "config.json": b"[]", "y.pt": b""}
    found = fetch("hf:acme/nets/a/x.pt", hidden=True)
    assert [path.read_bytes() for path in (found.path, *found.beside)] == [WEIGHTS, b"{}"]
    with pytest.raises(
        CheckpointError, match=r"hf:acme/nets has 2 files of weights \(a/x\.pt, y\.pt\): say which, hf:acme/nets"
    ):
        fetch("hf:acme/nets", hidden=True)


def test_shards_come_with_their_index(hub: Hub) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 100 for i in (1, 2)}
    index = {"metadata": {}, "weight_map": dict(zip("abc", [*shards, min(shards)], strict=True))}
    files = {**shards, "model.safetensors.index.json": json.dumps(index).encode()}
    hub.repositories["acme/big"] = files
    found = fetch("hf:acme/big", hidden=True)
    assert found.path.name == "model.safetensors.index.json"
    assert {path.name: path.read_bytes() for path in found.beside} == shards
    assert {path.parent for path in found.beside} == {found.path.parent}
    hub.repositories["acme/half"] = {name: content for name, content in files.items() if "00002-of" not in name}
    with pytest.raises(
        CheckpointError, match=r"names model-00002-of-00002\.safetensors, which the repository does not have"
    ):
        fetch("hf:acme/half", hidden=True)
    for number, text in enumerate(("{", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": "../x.safetensors"}}')):
        hub.repositories[f"acme/bad{number}"] = {"model.safetensors.index.json": text.encode()}
        with pytest.raises(CheckpointError, match=r"is no index of weights|which is no safetensors file beside it"):
            fetch(f"hf:acme/bad{number}", hidden=True)


def test_what_is_not_there(hub: Hub) -> None:
    hub.repositories["acme/net"] = {"model.safetensors": WEIGHTS}
    hub.repositories["acme/gated"] = {"model.safetensors": WEIGHTS}
    hub.gated.add("acme/gated")
    for name, message in (
        (
            "hf:acme/nothing",
            "^hf:acme/nothing is not on the Hub, or not open to you: check the name, or run `hf auth login`$",
        ),
        ("hf:acme/net@v9", "^hf:acme/net has no revision 'v9': give a branch, a tag or a commit$"),
        ("hf:acme/net/x.pt", r"^hf:acme/net has no file 'x\.pt': it has model\.safetensors$"),
        (
            "hf:acme/gated",
            "^hf:acme/gated is open only to those who accept its conditions: do so on its page on the Hub, then",
        ),
        ("hf:-acme/net--x", "^hf:-acme/net--x cannot be the name of a repository: "),
    ):
        with pytest.raises(CheckpointError, match=message) as raised:
            fetch(name, hidden=True)
        assert "\n" not in str(raised.value)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.usefixtures("told")
def test_without_a_network_the_cache_is_taken(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hub.repositories["acme/net"] = {"model.safetensors": WEIGHTS, "config.json": b"{}"}
    older = fetch("hf:acme/net@v1", hidden=True)
    online = fetch("hf:acme/net", hidden=True)
    asked = len(hub.asked)
    offline(monkeypatch)
    assert fetch("hf:acme/net") == online
    assert fetch("hf:acme/net@v1", hidden=True) == fetch(f"hf:acme/net@{OLDER}", hidden=True) == older
    with pytest.raises(CheckpointError, match="hf:acme/net is not in its cache"):
        fetch("hf:acme/net@v2")
    assert len(hub.asked) == asked
    assert (
        f"the Hub must not be asked (HF_HUB_OFFLINE): taking hf:acme/net@{COMMIT[:12]} from the cache"
        in capsys.readouterr().err
    )
    message = (
        rf"^the Hub must not be asked \(HF_HUB_OFFLINE\), and hf:acme/other is not in its cache {tmp_path}/hub: run "
        rf"`hf download acme/other` where there is a network and copy the cache here, or give the path of the file$"
    )
    with pytest.raises(CheckpointError, match=message):
        fetch("hf:acme/other")


def test_a_hub_that_is_down(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["acme/net"] = {"model.safetensors": WEIGHTS}
    online = fetch("hf:acme/net", hidden=True)
    hub.status = 500
    assert fetch("hf:acme/net", hidden=True) == online
    with pytest.raises(CheckpointError, match=r"^the Hub has trouble \(500\), and hf:acme/other is not in its cache"):
        fetch("hf:acme/other", hidden=True)
    hub.status = 418
    with pytest.raises(CheckpointError, match=r"^the Hub answered .*418.* for hf:acme/net: try again later"):
        fetch("hf:acme/net", hidden=True)


def test_a_damaged_cache_is_told(hub: Hub) -> None:
    hub.repositories["acme/net"] = {"model.safetensors": WEIGHTS}
    blob = fetch("hf:acme/net", hidden=True).path.resolve()
    assert blob.name == SHA
    blob.write_bytes(b"!" * len(WEIGHTS))
    with pytest.raises(CheckpointError, match=rf"is damaged \(its sha256 is not {SHA}\): delete {blob} and run again"):
        fetch("hf:acme/net", hidden=True)
    blob.unlink()
    assert fetch("hf:acme/net", hidden=True).sha256 == SHA


class ConnectError(Exception):
    """As HTTP libraries call theirs, which share no base with Python's."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectError("[Errno -2] Name or service\n not known"),
            r"^the Hub was not reached \(\[Errno -2\] Name or service not ",
        ),
        (OSError(28, "No space left on device"), "^the disk is full, so hf:acme/net was not downloaded"),
        (
            RuntimeError(),
            r"^hf:acme/net cannot be downloaded \(RuntimeError: RuntimeError\): download the file yourself",
        ),
    ],
)
def test_whatever_its_client_raises(hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    from robust_transfer.errors import RobustTransferError

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(RobustTransferError, match=message):
        fetch("hf:acme/net", hidden=True)


PROGRAM = """
import json, sys
from robust_transfer.download import fetch
from robust_transfer.errors import RobustTransferError
for name in sys.argv[1:]:
    try:
        found = fetch(name)
        print(json.dumps([found.address, found.sha256, str(found.path)]))
    except RobustTransferError as error:
        print(json.dumps(str(error)))
"""


def test_the_environment_is_respected(hub: Hub, tmp_path: Path) -> None:
    """The Hub's address is read when its client is imported, hence other processes."""
    hub.repositories["acme/net"] = {"model.safetensors": WEIGHTS}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}

    def call(*names: str, **more: str) -> list[Any]:
        command = [sys.executable, "-c", PROGRAM, *names]
        done = subprocess.run(command, env=environment | more, capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    (found,) = call("hf:acme/net")
    assert found[:2] == [f"hf:acme/net@{COMMIT}/model.safetensors", SHA]
    assert Path(found[2]).is_relative_to(tmp_path / "home")
    asked = len(hub.asked)
    again, missing = call("hf:acme/net", "hf:acme/other", HF_HUB_OFFLINE="1")
    assert again == found
    assert missing.startswith("the Hub must not be asked (HF_HUB_OFFLINE), and hf:acme/other is not in its cache")
    assert len(hub.asked) == asked
