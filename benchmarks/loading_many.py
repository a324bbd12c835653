"""Loading a data set of many images: CPU time of each step by their number, and memory; each in a process of its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from common import header
from load import moment, taken, told
from load_images import STEPS
from many_images import write
from startup import watched
from table import Row, figure

LOADER = [sys.executable, str(Path(__file__).with_name("load_images.py"))]


def loading(counts: Sequence[int], folder: Path) -> list[Row]:
    """Microseconds an image of each step, for data sets of so many images."""
    header("data of many images", images=", ".join(map(str, counts)))
    rows: dict[str, list[Row]] = {step: [] for step in STEPS}
    alone = _watched([])["megabytes"]
    for count in counts:
        place, found = folder / f"{count}", folder / f"{count}.json"
        stored = write(place, count)
        print(f"  {count:,} images, {stored / 1e6:,.0f} MB of parquet files:", flush=True)
        begun = moment()
        memory = _watched([str(place), str(found)])["megabytes"]
        load, steps = taken(begun, moment()), json.loads(found.read_text(encoding="utf-8"))
        shutil.rmtree(place)
        assert steps["images"] == count, "none is lost"
        kept = "read on demand" if steps["streamed"] else "kept in memory"
        print(
            f"    peak {figure(memory)} MB ({figure(alone)} MB of them imports), {kept} (taken by others: {told(load)})"
        )
        for step in STEPS:
            note = f"{figure(steps[step])} s of CPU" + (
                f", peak {figure(memory)} MB, {kept}" if step == STEPS[0] else ""
            )
            print(f"    {step}: {figure(steps[step])} s", flush=True)
            rows[step].append(
                Row(step, f"{count:,} images", (1e6 * steps[step] / count,), "us of CPU an image", load, note)
            )
    return [row for step in STEPS for row in rows[step]]


def _watched(words: Sequence[str]) -> dict[str, float]:
    found = dict[str, float]()
    watched([*LOADER, *words], found.update)
    return found
