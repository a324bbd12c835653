"""Contact sheet: pictures of each class in its row, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robust_transfer.data.survey import sheet, write_contact_sheet
from robust_transfer.errors import OutputError


def coloured(folder: Path, colours: dict[str, tuple[int, int, int]], counts: list[int]) -> Path:
    for (name, colour), count in zip(colours.items(), counts, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((10, 20, 3), colour, np.uint8)
            pixels[0, i] = 255 - pixels[0, i]  # no two are the same
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


COLOURS = {"blau": (0, 0, 200), "grün": (0, 200, 0), "rot": (200, 0, 0)}


def test_each_class_has_its_row(tmp_path: Path) -> None:
    data, path = coloured(tmp_path / "data", COLOURS, [12, 3, 5]), tmp_path / "sheet.png"
    (data / "rot" / "9.png").write_bytes(b"no picture")
    assert write_contact_sheet(data, path) == []
    page = np.asarray(Image.open(path))
    place = sheet.SIDE + sheet.GAP
    assert page.shape == (3 * place + sheet.GAP, sheet.NAME + 8 * place + sheet.GAP, 3)
    shown = []
    for row, colour in enumerate(COLOURS.values()):
        middles = page[sheet.GAP + row * place + sheet.SIDE // 2, sheet.NAME + sheet.SIDE // 2 :: place][:8]
        shown.append(sum(tuple(pixel) == colour for pixel in middles.tolist()))
        above = page[sheet.GAP + row * place + 4, sheet.NAME + sheet.SIDE // 2]
        assert tuple(above) == (255, 255, 255)  # twice as wide as high, and not stretched
        assert (page[sheet.GAP + row * place : sheet.GAP + row * place + sheet.SIDE, : sheet.NAME] < 128).any()
    assert shown == [8, 3, 5]
    assert (page == (255, 0, 0)).all(2).any()  # the damaged one is a crossed box
    before = path.read_bytes()
    write_contact_sheet(data, path)
    assert path.read_bytes() == before


def test_classes_beyond_the_page_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "CLASSES", 2)
    data = coloured(tmp_path / "data", COLOURS, [2, 2, 2])
    assert write_contact_sheet(data, tmp_path / "s.png") == [
        "the contact sheet has the first 2 classes: 1 are left out"
    ]
    with pytest.raises(OutputError, match=r"call it s\.png"):
        write_contact_sheet(data, tmp_path / "s.jpg")
