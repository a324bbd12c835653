"""`robust-transfer data` on a folder of many photos: seconds, CPU time and peak memory of the command.

python benchmarks/photos.py --data PATH/TO/imagenette [--images 50000] [--side 224] [--kept FOLDER] [--quick]

The photos are JPEG files in class folders, as many as asked for, cut out of the train images of DATA at random: a part of one
between a tenth and all of it, half of them mirrored. --kept: a folder to leave them in, or where an earlier run has left them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from common import finish, header, parsed
from load import moment, taken, told
from PIL import Image, ImageOps
from startup import CLI, watched
from table import Row, figure

from robust_transfer.data import load_task
from robust_transfer.data.parallel import in_threads

QUALITY = 90  # of JPEG
SMALLEST = 0.1  # share of a photo's area that is cut out, at least


def write(data: str, folder: Path, count: int, side: int) -> None:
    """Put ``count`` photos of ``side`` pixels a side into ``folder``, in the classes of ``data``."""
    originals = load_task(data, val=0).train.at_size(side)
    pictures = originals.images().permute(0, 2, 3, 1).contiguous().numpy()
    for name in originals.class_names:
        (folder / name).mkdir(parents=True)

    def one(number: int) -> None:
        place = number % len(pictures)
        random = np.random.default_rng(number)
        part = round(side * float(np.sqrt(random.uniform(SMALLEST, 1))))
        left, top = (int(random.integers(0, side - part + 1)) for _ in range(2))
        box = (left, top, left + part, top + part)
        photo = Image.fromarray(pictures[place]).resize((side, side), Image.Resampling.BICUBIC, box)
        photo = ImageOps.mirror(photo) if random.random() < 0.5 else photo
        name = originals.class_names[int(originals.labels[place])]
        photo.save(folder / name / f"{number:06d}.jpg", quality=QUALITY)

    in_threads(one, count)


def measured(folder: Path, count: int) -> list[Row]:
    """Rows of one run of the command on ``folder``."""
    found = dict[str, float]()
    begun = moment()
    watched([*CLI, "data", str(folder), "--json"], found.update)
    load, what = taken(begun, moment()), f"data, {count:,} photos"
    print(f"  {figure(found['whole'])} s (taken by others: {told(load)})", flush=True)
    return [
        Row(what, "from start to end", (found["whole"],), "s", load),
        Row(what, "CPU time", (found["cpu"],), "s", load, f"{figure(1e6 * found['cpu'] / count)} us a photo"),
        Row(what, "peak memory", (found["megabytes"],), "MB", load),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--kept", type=Path)
    given = parsed(parser, images=1000)
    header("data of many photos", images=given.images, side=given.side, of=Path(given.data).name)
    with tempfile.TemporaryDirectory() as place:
        folder = (given.kept or Path(place)) / f"photos-{given.images}-{given.side}"
        if not folder.exists():
            write(given.data, folder, given.images, given.side)
        stored = sum(path.stat().st_size for path in folder.rglob("*.jpg"))
        print(f"  {stored / 1e6:,.0f} MB of files, {torch.get_num_threads()} threads", flush=True)
        rows = measured(folder, given.images)
    finish(rows, given.rows)


if __name__ == "__main__":
    main()
