"""Detection of image copies: recall on modified copies, matches between train and test.

python benchmarks/copies.py PATH/TO/cifar100 [--other PATH/TO/cifar10] [--changed 1000]
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageOps

from robust_transfer.data import Dataset
from robust_transfer.data.decoded import Decoded
from robust_transfer.data.duplicates import find_copies
from robust_transfer.data.fingerprints import Fingerprints, fingerprint

Change = Callable[[Image.Image], Image.Image]


def again(image: Image.Image, fmt: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return Image.open(file).convert("RGB")


def to(image: Image.Image, *size: int) -> Image.Image:
    return image.resize((size[0], size[-1]), Image.Resampling.BICUBIC)


def lighter(image: Image.Image, gamma: float) -> Image.Image:
    return image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)


def cropped(image: Image.Image, share: float) -> Image.Image:
    return ImageOps.crop(image, max(1, round(share * image.size[0])))


CHANGES: dict[str, Change] = {
    "JPEG q75": lambda x: again(x, "JPEG", quality=75),
    "JPEG q30": lambda x: again(x, "JPEG", quality=30),
    "JPEG q95": lambda x: again(x, "JPEG", quality=95),
    "WebP q80": lambda x: again(x, "WEBP", quality=80),
    "GIF": lambda x: again(x, "GIF"),
    "to 64": lambda x: to(x, 64),
    "to 64, JPEG q75": lambda x: again(to(x, 64), "JPEG", quality=75),
    "to 48x64": lambda x: to(x, 48, 64),
    "to half": lambda x: to(x, max(8, x.size[0] // 2)),
    "gamma 0.8": lambda x: lighter(x, 0.8),
    "gamma 1.25": lambda x: lighter(x, 1.25),
    "grey": lambda x: x.convert("L").convert("RGB"),
    "mirror": ImageOps.mirror,
    "crop 3 %": lambda x: cropped(x, 0.03),
    "crop 5 %": lambda x: cropped(x, 0.05),
    "turn 90": lambda x: x.rotate(90),
    "turn 180": lambda x: x.rotate(180),
}


def prints(images: list[Image.Image]) -> Fingerprints:
    return Fingerprints(np.stack([fingerprint(np.asarray(image)) for image in images]))


def recall(name: str, images: list[Image.Image]) -> None:
    own = prints(images)
    cells = []
    for change in CHANGES.values():
        found = find_copies(prints([change(image) for image in images]), own)
        cells.append(f"{100 * (found.partner == np.arange(len(images))).mean():.1f}")
    print(f"| {name} ({len(images)}) | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--other")
    parser.add_argument("--changed", type=int, default=1000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| images | " + " | ".join(CHANGES) + " |\n|---|" + "---|" * len(CHANGES))
    for size in (8, 16, 32, 64, 224):
        many = range(given.changed if size < 224 else given.changed // 4)
        recall(
            f"noise, {size} pixels", [Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)) for _ in many]
        )
    splits = Dataset(given.data)._source.splits
    train, test = (Decoded(s.images, s.labels, s.class_names) for s in (splits["train"], splits["test"]))
    some = test.split(torch.arange(given.changed), "test").images().permute(0, 2, 3, 1).numpy()
    recall("photographs", [Image.fromarray(image) for image in some])
    begun, own = time.process_time(), train.fingerprints
    made = time.process_time() - begun
    theirs, begun = test.fingerprints, time.process_time()
    found = find_copies(theirs, own)
    searched = time.process_time() - begun
    print(f"{len(own)} images decoded and fingerprinted in {made:.1f} s of one core")
    print(f"{found.found.sum()} of {len(found.found)} test images in train, {found.exact.sum()} to the pixel")
    print(f"searched in {searched:.1f} s of one core")
    if given.other:
        other = Dataset(given.other)._source.splits["test"]
        strange = Decoded(other.images, other.labels, other.class_names).fingerprints
        found = find_copies(strange, own)
        print(f"{found.found.sum()} of {len(strange)} images of the other data in train, {found.exact.sum()} exactly")
    many_noise = prints([Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(20_000)])
    found = find_copies(many_noise.take(np.arange(10_000)), many_noise.take(np.arange(10_000, 20_000)))
    print(f"{found.found.sum()} of 10000 noise images match one of 10000 others")


if __name__ == "__main__":
    main()
