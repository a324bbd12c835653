"""Web pages in place of files: told apart from weights, said what they are, and Google Drive's form followed."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from web import Asked, Reply, Site

from robust_transfer.download import addresses, fetch
from robust_transfer.download.pages import Page, hint, is_page, is_pointer
from robust_transfer.errors import CheckpointError

ID = "15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ"
SCAN = f"""<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title><meta http-equiv="content-type"
content="text/html; charset=utf-8"/></head><body><div class="uc-main"><p class="uc-warning-subcaption">
<span class="uc-name-size"><a href="/open?id={ID}">best.pt</a> (300M)</span> is too large for Google to scan for viruses.</p>
<form id="download-form" action="ACTION" method="get"><input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="{ID}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="a&amp;b"></form></div></body>
</html>""".encode()
QUOTA = b"""<html><head><title>Google Drive - Quota exceeded</title></head><body><p class="uc-error-caption">Sorry.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this
file recently. </p></body></html>"""
BODY = b"weights" * 1000


@pytest.mark.parametrize(
    "start",
    [
        b"<!DOCTYPE html><html>",
        b"\xef\xbb\xbf\n  <!doctype HTML>",
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">',
        b"<!-- made by hand -->\n<html lang='en'>",
        b"<HEAD><title>x</title>",
    ],
)
def test_pages(start: bytes) -> None:
    assert is_page(start)


def test_weights_are_no_pages() -> None:
    tensors = {"html": torch.zeros(3)}
    zipped, legacy = io.BytesIO(), io.BytesIO()
    torch.save(tensors, zipped)
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    for content in (save(tensors), zipped.getvalue(), legacy.getvalue(), pickle.dumps({"<html>": 1}), b"", b"<htmlx>"):
        assert not is_page(content)
        assert not is_pointer(content)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"<html><title>Sign in \n &middot; GitLab.</title>",
            r"is a web page that says 'Sign in · GitLab', not a file: open it",
        ),
        (
            b"<html><title></title>",
            r"is a web page, not a file: open it in a browser, and give the address of the file its",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a pointer of Git LFS, not the file",
        ),
    ],
)
def test_a_page_is_not_taken_for_weights(site: Site, tmp_path: Path, body: bytes, message: str) -> None:
    site.pages["/x.pt"] = Reply(body)
    with pytest.raises(CheckpointError, match=message) as raised:
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert str(raised.value).endswith(".pt")
    assert list(tmp_path.iterdir()) == []


def test_hints() -> None:
    assert "/raw/ for /blob/" in hint("https://github.com/a/b/blob/main/x.pt")
    assert "hf:OWNER/REPO/FILE" in hint("https://huggingface.co/a/b/blob/main/x.pt")
    assert "dl=1" in hint("https://www.dropbox.com/s/abc/x.pt?dl=0")
    assert "browser" in hint("https://a.org/x.pt")


@pytest.fixture
def drive(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path that is asked for first; Google Drive is the site."""
    monkeypatch.setattr(addresses, "DRIVE", f"{site.address}/download")
    return f"/download?id={ID}&export=download&confirm=t"


def test_the_form_of_google_drive_is_followed(site: Site, drive: str, tmp_path: Path, waited: list[float]) -> None:
    scan = SCAN.replace(b"ACTION", b"/download")
    led = f"/download?id={ID}&export=download&confirm=t&uuid=a%26b"
    date = {"Last-Modified": "Mon, 01 Jun 2020 10:00:00 GMT", "Content-Disposition": 'attachment; filename="best.pt"'}
    site.pages[drive] = Reply(scan)
    site.pages[led] = [Reply(BODY, headers=date, cut=4000), Reply(BODY, headers=date)]
    found = fetch(f"gdrive:{ID}", folder=tmp_path, hidden=True)
    assert found.path == tmp_path / f"gdrive_{ID}"
    assert (found.path.read_bytes(), found.name, found.address) == (BODY, "best.pt", f"gdrive:{ID}")
    assert [asked.path for asked in site.asked] == [drive, led, led]
    assert site.ranges == [None, None, "bytes=4000-"]


def test_a_later_call_goes_on_behind_the_form(site: Site, drive: str, tmp_path: Path, waited: list[float]) -> None:
    led = f"/download?id={ID}&export=download&confirm=t&uuid=a%26b"
    site.pages[drive] = Reply(SCAN.replace(b"ACTION", b"/download"))
    site.pages[led] = [Reply(BODY, etag='"1"', cut=4000), Reply(b"", 500)]
    with pytest.raises(CheckpointError, match="run again, which resumes from there"):
        fetch(f"gdrive:{ID}", folder=tmp_path, hidden=True)
    site.pages[led] = Reply(BODY, etag='"1"')
    assert fetch(f"gdrive:{ID}", folder=tmp_path, hidden=True).path.read_bytes() == BODY
    assert site.ranges[-1] == "bytes=4000-"


def test_a_form_that_leads_to_itself(site: Site, drive: str, tmp_path: Path) -> None:
    def always(_: Asked) -> Reply:
        return Reply(SCAN.replace(b"ACTION", b"/download"))

    site.pages[drive] = site.pages[f"/download?id={ID}&export=download&confirm=t&uuid=a%26b"] = always
    message = (
        r"is a web page that says 'Google Drive - Virus scan warning', not a file: download it with a browser from "
    )
    with pytest.raises(
        CheckpointError, match=message + rf"https://drive\.google\.com/file/d/{ID} and put it at {tmp_path}/"
    ):
        fetch(f"gdrive:{ID}", folder=tmp_path, hidden=True)
    assert len(site.asked) == 2


def test_google_drive_says_why_not(site: Site, drive: str, tmp_path: Path) -> None:
    site.pages[drive] = Reply(QUOTA)
    message = (
        "is a web page that says 'Too many users have viewed or downloaded this file recently', not a file: download it"
    )
    with pytest.raises(CheckpointError, match=message):
        fetch(f"gdrive:{ID}", folder=tmp_path, hidden=True)


@pytest.mark.parametrize(
    ("action", "leads"),
    [
        ("https://drive.usercontent.google.com/download", True),
        ("/download", True),
        ("https://google.com.evil.org/download", False),
        ("http://drive.usercontent.google.com/download", False),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
    ],
)
def test_a_form_leads_to_google_only(action: str, leads: bool) -> None:
    page = Page(SCAN.replace(b"ACTION", action.encode()), "https://drive.usercontent.google.com/download?id=1")
    assert (page.leads_to is not None) == leads
    if leads:
        wanted = f"https://drive.usercontent.google.com/download?id={ID}&export=download&confirm=t&uuid=a%26b"
        assert page.leads_to == wanted
    posted = Page(SCAN.replace(b'method="get"', b'method="post"').replace(b"ACTION", action.encode()), page.url)
    assert posted.leads_to is None


def test_a_form_elsewhere_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.pages["/x.pt"] = Reply(SCAN.replace(b"ACTION", b"/y.pt"))
    with pytest.raises(CheckpointError, match="is a web page that says 'Google Drive - Virus scan warning'"):
        fetch(f"{site.address}/x.pt", folder=tmp_path, hidden=True)
    assert len(site.asked) == 1
