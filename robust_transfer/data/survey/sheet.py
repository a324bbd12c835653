"""Contact sheet: some images of each class, labelled, on one page."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from robust_transfer.data.decode import to_rgb
from robust_transfer.data.encoded import opened, quiet_pillow
from robust_transfer.data.formats import ColumnNames, open_dataset
from robust_transfer.data.formats.base import StoredSplit, first_role
from robust_transfer.data.subsets import shuffled_classes
from robust_transfer.errors import DataError, OutputError
from robust_transfer.files import write_bytes

SIDE, GAP, NAME = 64, 4, 170  # pixels: of a picture, between two, and of the column of names
A_CLASS, CLASSES = 8, 60  # pictures in a row, and rows
LETTERS = 22  # of a class's name


def check_sheet(path: Path) -> None:
    """Raise :class:`OutputError` for a path that no contact sheet can be written to."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"a contact sheet is a PNG: call it {path.stem or 'sheet'}.png, not {path.name!r}")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file in it")


def write_contact_sheet(
    data: str | Path,
    path: Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    seed: int = 0,
) -> list[str]:
    """Write a PNG with up to 8 images of each of up to 60 classes to ``path``; returns omissions, in sentences.

    The images are drawn by ``seed`` from train (or from the split in its place). Larger images are reduced, smaller
    ones enlarged without smoothing. Raises :class:`DataError` for anything that is not a data set, and
    :class:`OutputError` for a path that does not end in ``.png``, or cannot be written.
    """
    check_sheet(path)
    stored = open_dataset(data, ColumnNames(image_column, label_column, split_column))
    role = first_role(stored.splits)
    split = stored.splits[role]
    members = shuffled_classes(split.labels, len(split.class_names), seed=seed, purpose="contact sheet")
    shown = members[:CLASSES]
    sheet = Image.new("RGB", (NAME + A_CLASS * (SIDE + GAP) + GAP, len(shown) * (SIDE + GAP) + GAP), "white")
    drawn, font = ImageDraw.Draw(sheet), _font()
    with quiet_pillow():
        for number, images in enumerate(shown):
            top = GAP + number * (SIDE + GAP)
            name = split.class_names[number]
            short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
            drawn.text((GAP, top + SIDE // 2 - 16), short, fill="black", font=font)
            drawn.text((GAP, top + SIDE // 2 + 2), f"{len(images)} of {role}", fill="#666666", font=font)
            for column, place in enumerate(images[:A_CLASS].tolist()):
                _put(sheet, split, place, NAME + column * (SIDE + GAP), top)
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    write_bytes(path, content.getvalue())
    left = len(members) - len(shown)
    return [f"the contact sheet has the first {CLASSES} classes: {left} are left out"] if left else []


def _put(sheet: Image.Image, split: StoredSplit, place: int, left: int, top: int) -> None:
    """Picture in the middle of its place; a damaged one is a crossed box."""
    try:
        with opened(split.images, place) as image:
            picture = to_rgb(image)
    except DataError:
        draw = ImageDraw.Draw(sheet)
        draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), outline="red")
        draw.line((left, top, left + SIDE - 1, top + SIDE - 1), fill="red")
        return
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
    sheet.paste(picture.resize(size, how), (left + (SIDE - size[0]) // 2, top + (SIDE - size[1]) // 2))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Matplotlib's own, which has more alphabets than Pillow's."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)
