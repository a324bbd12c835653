"""Addresses and their names in the cache folder: made by hand, and by torch.hub's own rule."""

from __future__ import annotations

import hashlib
import re

import pytest
from torch.hub import HASH_REGEX

from robust_transfer.download.addresses import DRIVE, read_address, safe_name, stated_sha256
from robust_transfer.errors import ConfigError

ID = "15tUx-gkZMYx7BfEOw1GY5OKC-jECIsPQ"


def test_a_name_that_states_its_sha256_is_torch_hubs() -> None:
    address = read_address("https://download.pytorch.org/models/resnet50-11ad3fa6.pth")
    assert (address.name, address.stated) == ("resnet50-11ad3fa6.pth", "11ad3fa6")
    found = re.search(HASH_REGEX, address.name)  # as torch.hub finds it
    assert found is not None
    assert found.group(1) == address.stated


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("resnet50_8xb32_in1k_20210831-ea4938fc.pth", "ea4938fc"),
        ("wrn-20210831.pth", None),  # a date
        ("wrn-28-10.pt", None),
        ("wrn-deadbee.pt", None),  # seven
        ("x-" + "0a" * 32 + ".safetensors", "0a" * 32),
        ("x-11ad3fa6-best.pth", None),
    ],
)
def test_what_states_a_sha256(name: str, stated: str | None) -> None:
    assert stated_sha256(name) == stated


def test_files_of_the_same_name_do_not_meet() -> None:
    one, other = read_address("https://a.org/x/best.pth.tar"), read_address("https://a.org/y/best.pth.tar#top")
    digits = hashlib.sha256(b"https://a.org/y/best.pth.tar").hexdigest()[:10]
    assert other.name == f"best_at_{digits}.pth.tar"
    assert one.name != other.name
    assert one.name == read_address("https://a.org/x/best.pth.tar").name
    assert read_address("https://a.org/v1.2_at").name.startswith("v1.2_at_at_")
    assert read_address("https://a.org/").name.startswith("download_at_")
    assert read_address("https://a.org/..%2F..%2Fetc%2Fpasswd").name.startswith("etc_passwd_at_")
    assert read_address("https://a.org/meine gewichte.pt").url == "https://a.org/meine%20gewichte.pt"


@pytest.mark.parametrize(
    "text",
    [
        f"gdrive:{ID}",
        f"https://drive.google.com/file/d/{ID}/view?usp=sharing",
        f"https://drive.google.com/open?id={ID}",
        f"https://drive.google.com/uc?export=download&id={ID}",
        f"https://drive.usercontent.google.com/download?id={ID}&export=download",
    ],
)
def test_links_to_google_drive_are_one_address(text: str) -> None:
    address = read_address(text)
    assert (address.text, address.name, address.drive) == (f"gdrive:{ID}", f"gdrive_{ID}", True)
    assert address.url == f"{DRIVE}?id={ID}&export=download&confirm=t"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://a.org/x.pt", r"'ftp://a\.org/x\.pt' is no address of a file: write https://HOST/FILE"),
        ("https:///x.pt", "is no address of a file"),
        ("https://a.org:port/x.pt", "is no address of a file: Port could not be cast"),
        ("https://[::1/x.pt", "is no address of a file"),
        ("gdrive:abc", "names no file on Google Drive: write gdrive:ID, the letters after /d/ in its link"),
        ("gdrive:../../../etc/passwd", "names no file on Google Drive"),
        ("https://drive.google.com/drive/folders/1AbCdEfGhIjKl", "is a folder on Google Drive: give the link of one"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_address(text)


def test_a_password_does_not_get_onto_a_card() -> None:
    with pytest.raises(ConfigError, match=r"the address on a\.org holds a password") as raised:
        read_address("https://me:secret@a.org/x.pt")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("model.pt", "model.pt"),
        ("../../.bashrc", "bashrc"),
        ("C:\\Windows\\evil.pt", "evil.pt"),
        ("a\nb\x00c.pt", "a_b_c.pt"),
        ("...", None),
        ("", None),
        (None, None),
        ("x" * 300 + ".pt", "x" * 97 + ".pt"),
    ],
)
def test_names_that_a_server_suggests(name: str | None, safe: str | None) -> None:
    assert safe_name(name) == safe
