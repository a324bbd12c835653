"""Every kind of picture becomes RGB uint8, with the pixels worked out by hand."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from robust_transfer.data.decode import open_image, to_rgb
from robust_transfer.data.encoded import quiet_pillow


def decoded(image: Image.Image, fmt: str = "PNG", **options: object) -> np.ndarray:
    """What becomes of ``image`` once it has been saved and opened again."""
    file = io.BytesIO()
    image.save(file, fmt, **options)
    file.seek(0)
    return np.asarray(to_rgb(open_image(file)))


def grey(*values: int) -> list[list[list[int]]]:
    return [[[v, v, v] for v in values]]


def test_rgb_stays_what_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for fmt in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(decoded(Image.fromarray(pixels), fmt), pixels)
    np.testing.assert_array_equal(decoded(Image.fromarray(pixels), "WEBP", lossless=True), pixels)


def test_grey_is_repeated() -> None:
    assert decoded(Image.fromarray(np.array([[0, 7, 255]], np.uint8))).tolist() == grey(0, 7, 255)


def test_one_bit_is_black_and_white() -> None:
    assert decoded(Image.fromarray(np.array([[False, True]]))).tolist() == grey(0, 255)


def test_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decoded(image).tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_transparent_palette_lies_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 100, 255])
    image.putpixel((1, 0), 1)
    # alpha 51 is a fifth: 0.2 * (0, 100, 255) + 0.8 * 255
    assert decoded(image, transparency=bytes([255, 51])).tolist() == [[[10, 20, 30], [204, 224, 255]]]


def test_alpha_lies_over_white() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7, 255], [9, 8, 7, 0], [255, 0, 0, 128], [0, 100, 255, 51]]], np.uint8))
    assert decoded(image).tolist() == [[[9, 8, 7], [255, 255, 255], [255, 127, 127], [204, 224, 255]]]


def test_grey_with_alpha_lies_over_white() -> None:
    image = Image.fromarray(np.array([[[40, 255], [40, 0], [100, 51]]], np.uint8))
    assert image.mode == "LA"
    assert decoded(image).tolist() == grey(40, 255, 224)


def test_transparent_colour_becomes_white() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decoded(image, transparency=(1, 2, 3)).tolist() == [[[255, 255, 255], [4, 5, 6]]]


def test_cmyk_is_inverted_and_darkened_by_black() -> None:
    # (255 - 0) * (255 - 51) / 255 = 204; (255 - 255) = 0; (255 - 51) * (255 - 51) / 255 = 163.2
    assert decoded(Image.new("CMYK", (1, 1), (0, 255, 51, 51)), "TIFF").tolist() == [[[204, 0, 163]]]


@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(fmt: str) -> None:
    values = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)
    # 257 steps of 16 bits make one of 8: 128 / 257 rounds down, 129 / 257 up, 32896 = 128 * 257
    expected = grey(0, 0, 1, 1, 128, 255)
    assert decoded(Image.fromarray(values), fmt).tolist() == expected


def test_sixteen_bits_in_other_containers() -> None:
    values = np.array([[0, 257, 65535]])
    assert decoded(Image.fromarray(values.astype(">u2")), "TIFF").tolist() == grey(0, 1, 255)


@pytest.mark.parametrize("largest", [255, 65535, 2**31 - 1])
def test_32_bit_integers_have_no_agreed_range(largest: int) -> None:
    values = np.array([[0, 40, largest]], np.int32)
    with pytest.raises(ValueError, match="32-bit integer pixels have no agreed range"):
        decoded(Image.fromarray(values), "TIFF")


def test_the_transparent_value_of_a_16_bit_picture_is_white() -> None:
    values = np.array([[0, 257, 514, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", transparency=257)
    with open_image(io.BytesIO(file.getvalue())) as image:
        assert np.asarray(to_rgb(image)).tolist() == [[[v] * 3 for v in (0, 255, 2, 255)]]


def test_exif_orientation_is_applied() -> None:
    pixels = np.array([[[1, 0, 0], [2, 0, 0], [3, 0, 0]], [[4, 0, 0], [5, 0, 0], [6, 0, 0]]], np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise by 90 degrees
    assert decoded(Image.fromarray(pixels), exif=exif)[..., 0].tolist() == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\0\0", b"Exif\0\0XX\0*\0\0\0\x08\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x09\1"]
)
def test_damaged_exif_is_no_reason_to_refuse_a_picture(fmt: str, exif: bytes) -> None:
    with quiet_pillow():
        assert decoded(Image.new("RGB", (4, 3)), fmt, exif=exif).shape == (3, 4, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (1, 1), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    assert decoded(frames[0], "GIF", save_all=True, append_images=frames[1:]).tolist() == [[[200, 0, 0]]]


def test_jpeg_is_read() -> None:
    np.testing.assert_allclose(
        decoded(Image.new("RGB", (8, 8), (200, 100, 50)), "JPEG", quality=95)[0, 0], [200, 100, 50], atol=2
    )


def test_floating_point_is_refused() -> None:
    with pytest.raises(ValueError, match="floating-point"):
        decoded(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF")


def test_postscript_is_not_run() -> None:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, "EPS")
    file.seek(0)
    with pytest.raises(UnidentifiedImageError):
        open_image(file)


def test_a_pillow_that_does_not_know_avif_is_not_asked_for_it() -> None:
    code = "from PIL import features; features.modules.pop('avif', None); import robust_transfer.data.decode"
    child = [sys.executable, "-W", "error:Unknown feature", "-c", code]
    done = subprocess.run(child, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
