"""Arguments of the command line as pictures: files, folders, patterns, and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images import picture, write_classes
from PIL import Image

from robust_transfer.errors import ConfigError
from robust_transfer.prediction.pictures import Pictures, each_picture


def names(images: Any, root: Path) -> list[str]:
    return [one.name.replace(f"{root}/", "") for one in each_picture(images, hidden=True)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_classes(tmp_path / "all", {"cat": 2, "dog": 1})
    (tmp_path / "all" / "notes.txt").write_text("none")
    (tmp_path / "[a].png").write_bytes((tmp_path / "all" / "dog" / "000.png").read_bytes())
    (tmp_path / "a.png").write_bytes((tmp_path / "all" / "dog" / "000.png").read_bytes())
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.usefixtures("told")
def test_folders_stand_for_what_is_under_them_and_patterns_for_what_is_called_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = ["all/cat/000.png", "all/cat/001.png", "all/dog/000.png"]
    assert names(root / "all", root) == everything
    assert names([str(root / "all" / "*")], root) == [*everything, "all/notes.txt"], "what is named is not judged"
    assert names(str(root / "**" / "00*.png"), root) == everything
    assert names([root / "a.png", root / "all" / "dog"], root) == ["a.png", "all/dog/000.png"]
    assert names(root / "[a].png", root) == ["[a].png"], "a file of that name is no pattern"
    assert names(str(root / "[ab].png"), root) == ["a.png"]
    list(each_picture(root / "all", hidden=False))
    assert "left out: 1 files with the extension .txt" in capsys.readouterr().err


def test_what_there_is_not_says_so(root: Path) -> None:
    words = [root / "no.png", root / "no*.png", root / "empty", "a\0b"]
    found = list(each_picture(words, hidden=True))
    assert [one.content for one in found] == [None] * 4
    told = [one.error or "" for one in found]
    assert told[:3] == [
        f"{root / 'no.png'} does not exist",
        f"nothing is called {root / 'no*.png'}",
        f"the folder {root / 'empty'} holds no images",
    ]
    assert told[3].startswith("cannot read") or told[3].endswith("does not exist")


def test_pixels_and_pil_images(root: Path) -> None:
    pixels = picture(0, 0)
    image = Image.fromarray(pixels)
    found = Pictures(list(each_picture([pixels, image, pixels[..., 0]], hidden=True)))
    assert [found.where(place) for place in range(3)] == ["image 0", "image 1", "image 2"]
    for place, wanted in enumerate((pixels, pixels, pixels[..., 0])):
        with found.open(place) as opened:
            assert np.array_equal(np.asarray(opened), wanted)
    assert image.getpixel((0, 0)) == tuple(pixels[0, 0]), "what is somebody else's is left open"
    with pytest.raises(ConfigError, match=r"uint8 \(H, W, 3\)"):
        list(each_picture([pixels / 255], hidden=True))
    with pytest.raises(ConfigError, match="image 0 is to be"):
        list(each_picture(torch.zeros(1, 3, 8, 8), hidden=True))
    with pytest.raises(ConfigError, match="images is to be"):
        list(each_picture(3, hidden=True))
