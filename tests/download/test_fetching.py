"""``fetch``: once, checked, recorded, and compared ever after."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
import torch
from web import Asked, Reply, Site

from robust_transfer.download import fetch
from robust_transfer.download.cache import record_path
from robust_transfer.errors import CheckpointError, ConfigError

BODY = b"weights" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.mark.usefixtures("told")
def test_once_and_then_from_the_cache(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    site.pages["/x.pt"] = Reply(BODY)
    first = fetch(f"{site.address}/x.pt")
    assert first.path.parent == tmp_path / "hub" / "checkpoints"
    assert (first.sha256, first.address, first.revision, first.beside) == (SHA, f"{site.address}/x.pt", None, ())
    assert "comes over a connection that is not secret: anybody on the way could change it" in capsys.readouterr().err
    assert fetch(f"{site.address}/x.pt", sha256=SHA.upper()) == first
    assert fetch(f"{site.address}/x.pt", sha256=SHA[:8]) == first
    assert len(site.asked) == 1
    assert capsys.readouterr().err == ""


def test_it_finds_what_torch_hub_has_downloaded(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / f"net-{SHA[:8]}.pth"
    path.parent.mkdir(parents=True)
    site.pages[f"/{path.name}"] = Reply(BODY)
    torch.hub.download_url_to_file(f"{site.address}/{path.name}", str(path), hash_prefix=SHA[:8], progress=False)
    found = fetch(f"{site.address}/{path.name}", hidden=True)
    assert (found.path, found.sha256) == (path, SHA)
    assert len(site.asked) == 1


def test_a_wrong_sha256_is_refused(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = site.pages["/x-0badc0de.pt"] = Reply(BODY)
    with pytest.raises(
        CheckpointError, match=rf"x\.pt gives a file that has the sha256 {SHA}, and deadbeef was to be expec"
    ):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True, sha256="deadbeef")
    with pytest.raises(CheckpointError, match=rf"the sha256 {SHA}, and 0badc0de was to be expected"):
        fetch(f"{site.address}/x-0badc0de.pt", folder=tmp_path, hidden=True)
    assert list(tmp_path.iterdir()) == []
    assert fetch(f"{site.address}/x-0badc0de.pt", folder=tmp_path, hidden=True, sha256=SHA).sha256 == SHA, (
        "who says more"
    )
    found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    with pytest.raises(CheckpointError, match=rf"{found.path} has the sha256 {SHA}, and deadbeef was to be expected"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True, sha256="deadbeef")
    for bad in ("", "xyz", "deadbee", "0" * 65):
        with pytest.raises(
            ConfigError, match="is no sha256: give its 64 hexadecimal digits, or the first eight or more"
        ):
            fetch(f"{site.address}/x.pt", folder=tmp_path, sha256=bad)


def test_a_file_that_changed_upstream_is_told(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = Reply(BODY)
    found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    found.path.unlink()
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True) == found, "the same file is no news"
    found.path.unlink()
    site.pages["/x.pt"] = Reply(BODY + b"!")
    with pytest.raises(
        CheckpointError, match=rf"/x\.pt has changed: its sha256 is \w+, and on \d{{4}}-\d\d-\d\d it was {SHA}"
    ):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert list(tmp_path.iterdir()) == [record_path(found.path)]
    record_path(found.path).unlink()
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).path.read_bytes() == BODY + b"!"


def test_a_file_that_changed_here_is_told(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = Reply(BODY)
    found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    os.utime(found.path)  # touched, not changed: the record learns
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True) == found
    found.path.write_bytes(b"!" * len(BODY))
    with pytest.raises(
        CheckpointError, match=rf"{found.path} is no longer what was downloaded from http.* recorded on "
    ):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    found.path.unlink()
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True) == found


@pytest.mark.usefixtures("told")
def test_a_file_put_there_by_hand(tmp_path: Path, waited: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    address = "http://127.0.0.1:9/x.pt"  # nobody listens
    with pytest.raises(CheckpointError) as raised:
        fetch(address, folder=tmp_path, hidden=True)
    path = Path(str(raised.value).rsplit(" ", 1)[1])
    path.write_bytes(BODY)
    found = fetch(address, folder=tmp_path)
    assert (found.path, found.sha256) == (path, SHA)
    assert f"{path} was there already: taken for {address}, sha256 {SHA}" in capsys.readouterr().err
    path.write_bytes(b"other")
    with pytest.raises(CheckpointError, match="is no longer what was downloaded"):
        fetch(address, folder=tmp_path)
    record_path(path).unlink()
    path.write_bytes(b"<!doctype html><title>Log in</title>")
    with pytest.raises(
        CheckpointError, match="is a web page, not a file of weights: delete it, and download the file itself"
    ):
        fetch(address, folder=tmp_path)


def test_several_at_once_download_once(site: Site, tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(_: Asked) -> Reply:
        begun.set()
        go.wait(5)
        return Reply(BODY)

    site.pages["/x.pt"] = slow
    found = list[str]()

    def one() -> None:
        found.append(fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256)

    several = [threading.Thread(target=one) for _ in range(3)]
    for each in several:
        each.start()
    assert begun.wait(5)
    go.set()
    for each in several:
        each.join()
    assert found == [SHA] * 3
    assert len(site.asked) == 1


def test_nothing_is_there_while_it_comes(site: Site, tmp_path: Path) -> None:
    """A kill at any time leaves a part, and never a file that looks whole."""
    site.pages["/x.pt"] = Reply(BODY, etag='"1"', cut=5000)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_transfer.download.transfer._wait", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    site.pages["/x.pt"] = Reply(BODY, etag='"1"')
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA
    assert site.ranges[-1] == "bytes=5000-"
