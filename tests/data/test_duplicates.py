"""Copies: exact ones, and re-encoded or resized ones, told from other images; what a task says and does about them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from images import encoded, picture
from PIL import Image

from robust_transfer.data import duplicates, load_task
from robust_transfer.data.duplicates import BRIGHTNESS, CLOSE, CONTRAST, DISTANCE, SHADE, find_copies, find_lookalikes
from robust_transfer.data.fingerprints import EXACT, SIGNS, Fingerprints, fingerprint, mirrored
from robust_transfer.errors import ConfigError

Change = Callable[[Image.Image], Image.Image]


def again(image: Image.Image, fmt: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return Image.open(file).convert("RGB")


def prints(images: list[Image.Image]) -> Fingerprints:
    return Fingerprints(np.stack([fingerprint(np.asarray(image)) for image in images]))


def smooth(seed: int, size: int = 32) -> Image.Image:
    """A picture with the falling spectrum of a photograph."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) + 1 / size
    layers = [np.fft.ifft2(np.fft.fft2(rng.normal(size=(size, size))) / f).real for _ in range(3)]
    pixels = np.stack([128 + 45 * layer / layer.std() for layer in layers], -1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "jpeg": lambda x: again(x, "JPEG", quality=75),
    "webp": lambda x: again(x, "WEBP", quality=80),
    "twice as large": lambda x: x.resize((64, 64), Image.Resampling.BICUBIC),
    "squashed": lambda x: x.resize((48, 64), Image.Resampling.BILINEAR),
    "jpeg q30": lambda x: again(x, "JPEG", quality=30),
    "darker": lambda x: x.point(lambda value: round(255 * (value / 255) ** 1.15)),
    "brighter": lambda x: x.point(lambda value: min(255, round(1.08 * value))),
    "in grey": lambda x: x.convert("L").convert("RGB"),
    "mirrored": lambda x: x.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "mirrored and jpeg": lambda x: again(x.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "JPEG", quality=75),
    "resized and jpeg": lambda x: again(x.resize((64, 64), Image.Resampling.BICUBIC), "JPEG", quality=75),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_a_changed_copy_is_found_and_is_no_other_image(change: str, kind: str) -> None:
    images = [Image.fromarray(picture(0, i, 32)) if kind == "noise" else smooth(i) for i in range(60)]
    found = find_copies(prints([CHANGES[change](image) for image in images]), prints(images))
    assert found.partner.tolist() == list(range(60))
    assert not found.exact.any()
    strangers = [Image.fromarray(picture(1, i, 32)) if kind == "noise" else smooth(100 + i) for i in range(60)]
    assert not find_copies(prints(strangers), prints(images)).found.any()


def test_lookalikes_among_images_have_other_pixels() -> None:
    """An exact copy is none, nor is the image itself; of two changed copies each finds one of the others."""
    images = [smooth(i) for i in range(8)]
    changed = [CHANGES["jpeg"](images[2]), CHANGES["mirrored"](images[5]), CHANGES["webp"](images[2]), images[0]]
    found = find_lookalikes(prints([*images, *changed])).tolist()
    assert [found[i] for i in (0, 1, 3, 4, 6, 7, 11)] == [-1] * 7
    assert (found[5], found[9]) == (9, 5)
    assert {found[2], found[8], found[10]} <= {2, 8, 10}
    assert all(found[i] != i for i in range(12))


def test_what_is_no_copy_is_none_in_any_shade() -> None:
    """Digits look alike: some differ in at most 8 signs, and in the means by less than a copy in other shades may."""
    from robust_transfer.data import Dataset

    found = Dataset("builtin:digits").task(val=0)
    prints = [split.fingerprints for split in (found.train, found.test)]
    bits = [np.unpackbits(one.signs, axis=1).astype(int) for one in prints]
    assert ((bits[0][:, None] != bits[1][None]).sum(2) <= 8).sum() > 5
    assert not find_copies(*prints).found.any()


def test_a_mirror_turns_the_look_around() -> None:
    images = [smooth(i, 48) for i in range(20)]
    there = prints([image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images])
    turned = mirrored(prints(images))
    assert (there.shades == turned.shades).all()
    different = np.unpackbits(there.signs ^ turned.signs, axis=1)
    assert different.sum(1).max() <= 4  # where a coefficient is as good as 0
    flat = prints([Image.new("RGB", (32, 32))])
    assert not mirrored(flat).signs.any()


def test_a_large_picture_made_small_is_found() -> None:
    images = [smooth(i, 224) for i in range(10)]
    small = [image.resize((64, 64), Image.Resampling.BICUBIC) for image in images]
    assert find_copies(prints(small), prints(images)).partner.tolist() == list(range(10))


def test_the_exact_part_is_its_definition() -> None:
    wide = picture(0, 0)[:5]
    wanted = hashlib.sha256(b"8x5|" + wide.tobytes()).digest()[:8]
    assert fingerprint(wide)[:8].tobytes() == wanted
    assert fingerprint(np.ascontiguousarray(wide.transpose(1, 0, 2)))[:8].tobytes() != wanted


def test_flat_pictures_are_known_exactly_only() -> None:
    flat = prints([Image.new("RGB", (32, 32), (c, c, c)) for c in (70, 71, 72)])
    assert not flat.signs.any()
    assert find_copies(flat, flat.take([2, 0])).partner.tolist() == [1, -1, 0]


@pytest.mark.parametrize("at_a_time", [1, 7, 2**19])
def test_the_search_is_the_comparison_of_all_pairs(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.data.duplicates._PAIRS", at_a_time)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (300, 32)).astype(np.uint8)
    rows[:, EXACT + SIGNS :] = rng.integers(100, 130, (300, 12))
    near = rows[:120].copy()
    near[:, :EXACT] = rng.integers(0, 256, (120, EXACT))
    near[:30, :EXACT] = rows[:30, :EXACT]  # exact copies
    for k, row in enumerate(near):  # flips 0 to 29 of the signs
        bits = np.unpackbits(row[EXACT : EXACT + SIGNS])
        bits[rng.choice(96, rng.integers(0, 30), replace=False)] ^= 1
        row[EXACT : EXACT + SIGNS] = np.packbits(bits)
        shades = row[EXACT + SIGNS :].astype(int)
        if k % 3 == 1:  # other shades, and in some other contrast
            shades = np.rint(rng.uniform(0.5, 1.7) * (shades - 115) + 115 + rng.integers(-30, 30)).astype(int)
        row[EXACT + SIGNS :] = shades + rng.integers(-3, 4, 12)
    near[90:] = mirrored(Fingerprints(near[90:])).rows
    found = find_copies(Fingerprints(near), Fingerprints(rows))

    def compared(one: np.ndarray, other: np.ndarray) -> float:
        """Number of signs that differ, or 99 where the shades do."""
        a, b = one[EXACT + SIGNS :].astype(int), other[EXACT + SIGNS :].astype(int)
        distance = int((np.unpackbits(one[EXACT : EXACT + SIGNS]) != np.unpackbits(other[EXACT : EXACT + SIGNS])).sum())
        if abs(a - b).max() <= SHADE:
            return distance if distance <= DISTANCE else 99
        x, y = a[:9] - a[:9].mean(), b[:9] - b[:9].mean()
        slope = min(max((x @ y) / (x @ x), CONTRAST[0]), CONTRAST[1])
        fits = abs(y - slope * x).max() <= SHADE and abs(a[4] - b[4]) <= BRIGHTNESS
        return distance if fits and distance <= CLOSE else 99

    kinds = set()
    for k, one in enumerate(near):
        same = [i for i, other in enumerate(rows) if (one[:EXACT] == other[:EXACT]).all()]
        nearest, kind = (same[0], "exact") if same else (-1, "none")
        for turned, name in ((one, "as it is"), (mirrored(Fingerprints(one[None])).rows[0], "mirrored")):
            distances = [compared(turned, other) for other in rows] if nearest < 0 else [99]
            if min(distances) < 99:
                nearest, kind = int(np.argmin(distances)), name
        assert (found.partner[k], found.exact[k]) == (nearest, bool(same))
        kinds.add(kind)
    assert kinds == {"exact", "as it is", "mirrored", "none"}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder whose 6 test images are, in turn, of train to the pixel, of train as JPEG, and its own."""
    for label, name in enumerate(("cat", "dog")):
        for split, count in (("train", 12), ("test", 3)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                seed = i if split == "train" or i < 2 else 50 + i
                fmt, more = ("JPEG", {"quality": 85}) if split == "test" and i == 1 else ("PNG", {})
                content = encoded(picture(label, seed, 32), fmt, **more)
                (tmp_path / split / name / f"{i}.{fmt.lower()}").write_bytes(content)
    return tmp_path


def test_copies_across_splits_are_said_and_dropped(copied: Path) -> None:
    kept = load_task(copied, val=0)
    [note] = kept.notes
    assert "4 of 6 test images are in train too, 2 of them re-encoded" in note
    assert "test/cat/0.png" in note
    assert "train/cat/0.png" in note
    dropped = load_task(copied, val=0, duplicates="drop")
    assert (len(kept.train), len(dropped.train), len(dropped.test)) == (24, 20, 6)
    assert set(kept.train.ids.tolist()) - set(dropped.train.ids.tolist()) == {0, 1, 12, 13}
    assert "4 images of train are left out" in dropped.notes[0]
    with pytest.raises(ConfigError, match="'keep' or 'drop'"):
        load_task(copied, duplicates="maybe")  # type: ignore[arg-type]


def test_one_picture_under_two_labels_is_said(copied: Path) -> None:
    (copied / "train" / "dog" / "0.png").write_bytes((copied / "train" / "cat" / "5.png").read_bytes())
    task = load_task(copied, val=0)
    assert "2 images of train have exact copies with another label" in task.notes[-1]
    assert "cat/5.png" in task.notes[-1]
    assert "dog/0.png" in task.notes[-1]


def test_few_pairs_are_looked_at_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5,000 x 20,000 strangers less than one in a hundred; none has more than it shares a key with others."""
    rng, looked = np.random.default_rng(0), list[int]()
    some, others = (Fingerprints(rng.integers(0, 256, (n, 32)).astype(np.uint8)) for n in (5_000, 20_000))
    same = duplicates._same

    def counted(*keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i, j in same(*keys):
            looked.append(len(i))
            yield i, j

    monkeypatch.setattr(duplicates, "_same", counted)
    assert not find_copies(some, others).found.any()
    assert 0 < sum(looked) < 5_000 * 20_000 / 100
    assert max(looked) <= duplicates._PAIRS


def test_whichever_signs_differ_what_is_close_in_another_brightness_is_found() -> None:
    """One sign in each of eight bytes, for every choice of these."""
    rng, choices = np.random.default_rng(0), list(combinations(range(SIGNS), CLOSE))
    rows = rng.integers(0, 230, (len(choices), 32)).astype(np.uint8)
    changed = rows.copy()
    changed[:, :EXACT] ^= 1
    changed[:, EXACT + SIGNS :] += 20
    for row, chosen in zip(changed, choices, strict=True):
        row[EXACT + np.array(chosen)] ^= 1 << rng.integers(0, 8, CLOSE).astype(np.uint8)
    assert find_copies(Fingerprints(changed), Fingerprints(rows)).partner.tolist() == list(range(len(choices)))


def test_an_image_as_it_is_comes_before_a_mirrored_one_that_is_nearer() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, (1, 32)).astype(np.uint8)
    near, turned = one.copy(), mirrored(Fingerprints(one)).rows.copy()
    for row in (near, turned):
        row[:, :EXACT] += 1
    near[:, EXACT] ^= 1
    assert find_copies(Fingerprints(one), Fingerprints(np.concatenate([turned, near, near]))).partner.tolist() == [1]
