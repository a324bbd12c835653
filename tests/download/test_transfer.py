"""Transfers that break off, go on, start over and give up: each against a server that does that."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from web import Asked, Reply, Site

from robust_transfer.download import addresses, fetch, transfer
from robust_transfer.errors import CheckpointError, OutputError

BODY = bytes(range(256)) * 4000  # a megabyte
SHA = hashlib.sha256(BODY).hexdigest()


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_broke_off_is_gone_on_with_at_once(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = [
        Reply(BODY, etag='"1"', cut=300_000),
        Reply(BODY, etag='"1"', cut=300_000),
        Reply(BODY, etag='"1"'),
    ]
    found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert found.path.read_bytes() == BODY
    assert found.sha256 == SHA
    assert site.ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert [asked.headers.get("if-range") for asked in site.asked] == [None, '"1"', '"1"']
    assert {asked.headers["accept-encoding"] for asked in site.asked} == {"identity"}
    assert waited == [1.0, 1.0], "each brought something"
    assert left(tmp_path) == [found.path.name, found.path.name + ".json"]


def test_a_later_call_goes_on(
    site: Site, tmp_path: Path, waited: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    cut = Reply(BODY, etag='"1"', cut=300_000)
    site.pages["/x.pt"] = [cut, Reply(b"", 503)]
    with pytest.raises(
        CheckpointError, match=r"has trouble, 503 .*, 4 times: run again, which resumes from there, or get the"
    ):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert waited == [1.0, 1.0, 2.0, 4.0]
    site.pages["/x.pt"] = Reply(BODY, etag='"1"')
    assert fetch(f"{site.address}/x.pt", folder=tmp_path).sha256 == SHA
    assert site.ranges[-1] == "bytes=300000-"
    assert "1.0/1.0 MB" in capsys.readouterr().err


@pytest.mark.usefixtures("told")
def test_a_file_that_changed_between_two_parts_is_begun_anew(
    site: Site, tmp_path: Path, waited: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    new = BODY[::-1]
    site.pages["/x.pt"] = [Reply(BODY, etag='"1"', cut=300_000), Reply(new, etag='"2"')]
    found = fetch(f"{site.address}/x.pt", folder=tmp_path)
    assert found.path.read_bytes() == new
    assert "/x.pt cannot be resumed, or has changed: starting over" in capsys.readouterr().err
    assert site.ranges == [None, "bytes=300000-"]


def test_a_server_that_knows_no_if_range_is_not_believed(site: Site, tmp_path: Path, waited: list[float]) -> None:
    """It sends the rest of another version: the entity tag, or the length, tells."""
    new = BODY[::-1]

    def rest(asked: Asked) -> Reply:
        start = asked.headers.get("range")
        if start is None:
            return Reply(new, etag='"2"')
        assert start == "bytes=300000-"
        end = len(new) - 1
        return Reply(new[300_000:], 206, {"Content-Range": f"bytes 300000-{end}/{len(new)}"}, etag='"2"')

    first = Reply(BODY, etag='"1"', cut=300_000)
    site.pages["/x.pt"] = lambda asked: first if len(site.asked) == 1 else rest(asked)
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).path.read_bytes() == new
    assert site.ranges == [None, "bytes=300000-", None]


@pytest.mark.parametrize("span", ["bytes 0-1023999/1024000", "bytes 300000-1023999/7", "pages 300000-5/9", ""])
def test_another_part_than_was_asked_for_is_not_taken(
    site: Site, tmp_path: Path, waited: list[float], span: str
) -> None:
    replies = [Reply(BODY, etag='"1"', cut=300_000), Reply(BODY, 206, {"Content-Range": span}), Reply(BODY, etag='"1"')]
    site.pages["/x.pt"] = replies
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA
    assert site.ranges == [None, "bytes=300000-", None]


@pytest.mark.parametrize(
    ("first", "ranges", "asked"),
    [
        (Reply(BODY, etag='"1"', cut=300_000, ranges=False), False, "bytes=300000-"),  # no parts here
        (Reply(BODY, cut=300_000), True, None),  # no word for the version
        (Reply(BODY, etag='W/"1"', cut=300_000), True, None),  # a weak one
    ],
)
def test_without_parts_it_starts_over(
    site: Site, tmp_path: Path, waited: list[float], first: Reply, ranges: bool, asked: str | None
) -> None:
    site.pages["/x.pt"] = [first, Reply(BODY, etag=first.etag, ranges=ranges)]
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA
    assert site.ranges == [None, asked]


def test_a_date_or_a_known_sha256_will_do(site: Site, tmp_path: Path, waited: list[float]) -> None:
    date = {"Last-Modified": "Mon, 01 Jun 2020 10:00:00 GMT"}
    site.pages["/x.pt"] = [Reply(BODY, headers=date, cut=300_000), Reply(BODY, headers=date)]
    fetch(f"{site.address}/x.pt", folder=tmp_path / "a", hidden=True)
    assert site.asked[1].headers["if-range"] == date["Last-Modified"]
    site.pages["/y.pt"] = [Reply(BODY, cut=300_000), Reply(BODY)]
    fetch(f"{site.address}/y.pt", folder=tmp_path / "b", hidden=True, sha256=SHA)
    assert site.ranges == [None, "bytes=300000-"] * 2


def test_a_beginning_that_does_not_fit_the_rest_is_found_out(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = [Reply(b"!" * len(BODY), cut=300_000), Reply(BODY)]
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True, sha256=SHA[:12]).path.read_bytes() == BODY
    assert site.ranges == [None, "bytes=300000-", None]


def test_a_part_that_is_whole_is_not_asked_for_again(site: Site, tmp_path: Path, waited: list[float]) -> None:
    """A process that was killed between the last byte and the new name."""
    address = f"{site.address}/x.pt"
    site.pages["/x.pt"] = Reply(
        BODY, etag='"1"', headers={"Content-Disposition": 'attachment; filename="../theirs.pt"'}
    )
    found = fetch(address, folder=tmp_path, hidden=True)
    assert found.name == "theirs.pt"
    found.path.rename(found.path.with_name(found.path.name + ".part"))
    found.path.with_name(found.path.name + ".part.json").write_text('{"etag": "\\"1\\"", "name": "theirs.pt"}')
    again = fetch(address, folder=tmp_path, hidden=True)
    assert again == found
    assert site.ranges == [None, f"bytes={len(BODY)}-"]


def test_a_part_that_is_too_long_is_begun_anew(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = Reply(BODY, etag='"1"')
    name = addresses.read_address(f"{site.address}/x.pt").name
    (tmp_path / f"{name}.part").write_bytes(BODY + b"more")
    (tmp_path / f"{name}.part.json").write_text('{"etag": "\\"1\\""}')
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA
    assert site.ranges == [f"bytes={len(BODY) + 4}-", None]
    site.pages["/y.pt"] = Reply(b"", 416)
    with pytest.raises(CheckpointError, match="sends no part of the file and not all of it"):
        fetch(f"{site.address}/y.pt", folder=tmp_path, hidden=True)


def test_notes_that_are_damaged_or_older_are_not_used(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = Reply(BODY, etag='"1"')
    name = addresses.read_address(f"{site.address}/x.pt").name
    for notes in ("", "[1]", '{"etga": 1}'):
        (tmp_path / f"{name}.part").write_bytes(b"other")
        (tmp_path / f"{name}.part.json").write_text(notes)
        found = fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
        assert found.path.read_bytes() == BODY
        found.path.unlink()


def test_a_length_that_is_never_reached(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/x.pt"] = Reply(BODY, length=len(BODY) + 5, ranges=False, etag='"1"')
    with pytest.raises(CheckpointError, match=r"the connection broke off after 1\.0 MB of 1\.0 MB, 4 times: run again"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert not any(path.suffix == ".pt" for path in tmp_path.iterdir())


def test_a_body_without_a_length(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = Reply(BODY, length=-1)
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA


def test_an_empty_answer_is_no_file(site: Site, tmp_path: Path, waited: list[float]) -> None:
    site.pages["/empty.pt"] = Reply(b"")
    with pytest.raises(CheckpointError, match="it sent nothing, 4 times"):
        fetch(f"{site.address}/empty.pt", folder=tmp_path, hidden=True)
    assert not list(tmp_path.glob("**/empty*.pt"))


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)]
)
def test_codings_are_undone(site: Site, tmp_path: Path, waited: list[float], coding: str, pack: object) -> None:
    packed = pack(BODY)  # type: ignore[operator]
    headers = {"Content-Encoding": coding}
    cut = Reply(packed, headers=headers, etag='"1"', cut=len(packed) // 2)
    short = Reply(packed[:-9], headers=headers)
    site.pages["/x.pt"] = [cut, short, Reply(packed, headers=headers, etag='"1"')]
    assert fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True).sha256 == SHA
    assert site.ranges == [None, None, None], "parts of a coded body are of no use"


def test_codings_that_are_left_alone_or_refused(site: Site, tmp_path: Path, waited: list[float]) -> None:
    packed = gzip.compress(BODY)
    site.pages["/x.tar.gz"] = Reply(packed, headers={"Content-Encoding": "gzip"})
    assert fetch(f"{site.address}/x.tar.gz", folder=tmp_path, hidden=True).path.read_bytes() == packed
    site.pages["/x.pt"] = Reply(packed, headers={"Content-Encoding": "br"})
    with pytest.raises(CheckpointError, match="comes in the coding 'br', which is not read: download it yourself"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    site.pages["/y.pt"] = Reply(BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(CheckpointError, match="its gzip coding is damaged"):
        fetch(f"{site.address}/y.pt", folder=tmp_path, hidden=True)


def test_a_full_disk_is_told_before_and_during(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waited: list[float]
) -> None:
    site.pages["/x.pt"] = Reply(BODY, etag='"1"')
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(
            OutputError, match=r"needs 1\.0 MB, and the disk of .* has 1000 bytes: free some space, or set"
        ):
            fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert left(tmp_path) == []
    name = addresses.read_address(f"{site.address}/x.pt").name
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(OutputError, match=r"the disk is full, so .* was not downloaded: free some space and run again"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)


def test_the_wait_is_a_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()
    monkeypatch.setattr(time, "sleep", slept.append)
    transfer._wait(2.5)
    assert slept == [2.5]
