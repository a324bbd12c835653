"""Golden figures of the packaged sources, on images that are computed and on builtin:digits; docs/survival/golden/figures.json.

python campaigns/golden.py [--cases 1:float32:strong 2:float32 ...] [--write]

Without ``--write`` the figures are compared with the committed ones, for each case (threads, precision of attack steps).
Under torchrun the training is that of all processes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import robust_transfer as rt
from robust_transfer.data import to_pixels
from robust_transfer.launch import is_main_process

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "survival" / "golden" / "figures.json"
SOURCES = ("bundled", "natural", "bundled-64")
PICTURES, ATTACKED, DIGITS = 16, 4, 8
ATTACK, STRONG = "pgd-20", "strong"
# What may differ: rounding, which no version or CPU promises to do alike. docs/survival.md argues the sizes.
TOLERANCES = {"margin": 0.0005, "attacked margin": 0.03, "trained logit": 0.005}
ONE = 1.0  # accuracies are counts, of which one image may differ


@dataclass(frozen=True)
class Figure:
    """``value`` of ``what`` (of accuracies: the number of images), which may differ by ``tolerance``.

    ``digest`` is that of all numbers that it was made of.
    """

    what: str
    value: float
    tolerance: float
    digest: str

    def against(self, golden: Figure) -> str:
        """``bit-equal``, ``within tolerance`` or ``differs``."""
        if self.digest == golden.digest:
            return "bit-equal"
        return "within tolerance" if abs(self.value - golden.value) <= golden.tolerance else "differs"


def pictures(size: int, count: int = PICTURES) -> NDArray[np.uint8]:
    """``(count, 3, size, size)`` smooth images from whole numbers alone, so that every version computes the same ones."""
    coarse = np.frombuffer(
        b"".join(hashlib.sha256(bytes([number, part])).digest() for number in range(count) for part in range(3)),
        np.uint8,
    )
    grid = coarse.reshape(count, 3, 32)[:, :, :25].reshape(count, 3, 5, 5).astype(np.int64)
    at = np.arange(size) * 4
    cell, rest = at // size, at % size
    rows = grid[:, :, cell] * (size - rest)[:, None] + grid[:, :, cell + 1] * rest[:, None]
    both = rows[..., cell] * (size - rest) + rows[..., cell + 1] * rest
    return (both // (size * size)).astype(np.uint8)


@functools.cache
def packaged(name: str) -> rt.Checkpoint:
    """A packaged source, loaded once for all cases."""
    return rt.load_source(name)


def of_network(name: str, run: rt.Run) -> Iterator[Figure]:
    """Figure of a source as it is: the mean margin of its own answers."""
    source = packaged(name)
    images = pictures(source.input_size)
    with torch.no_grad(), run.at_work():
        logits = source.classifier(torch.from_numpy(images).float() / 255)
    first, second = logits.topk(2, dim=1).values.T
    margin = float((first - second).mean())
    yield Figure(f"{name}: margin", margin, TOLERANCES["margin"], digest(logits))


def under_attack(
    name: str, model: rt.Checkpoint, split: rt.Split, threat: str, attack: str, run: rt.Run, clean: bool = False
) -> Iterator[Figure]:
    """Figures of an evaluation: images that stand, and the mean of their worst margins."""
    found = rt.evaluate(
        model, split, threat=threat, attack=attack, run=run, red_flag_examples=0, transfer_attack_examples=0
    )
    whole = digest(torch.from_numpy(found.outcomes["margin"].to_numpy(copy=True)))
    n = len(split)
    if clean:
        yield Figure(f"{name}: right of {n}", n * found.clean_accuracy.value, ONE, whole)
    yield Figure(f"{name}: right of {n} under {attack} at {threat}", n * found.robust_accuracy.value, ONE, whole)
    worst = float(found.outcomes["margin"].mean())
    yield Figure(f"{name}: margin under {attack} at {threat}", worst, TOLERANCES["attacked margin"], whole)


def of_transfer(run: rt.Run, strong: bool = False) -> Iterator[Figure]:
    """Figures of ``bundled`` transferred to digits: a probe under PGD-20 (and ``strong``), and an epoch of fine-tuning."""
    source, task = packaged("bundled"), rt.load_task("builtin:digits", shots=12, seed=0)
    test = task.test.subset(torch.arange(DIGITS))
    if is_main_process():
        name = "probe on digits"
        probe = rt.transfer(source, task, rt.LinearProbe(l2=0.1), run=run)
        yield from under_attack(name, probe, test, "linf:8/255", ATTACK, run, clean=True)
        if strong:
            yield from under_attack(name, probe, test.subset(torch.arange(ATTACKED)), "linf:8/255", STRONG, run)
    strategy = rt.FineTune(epochs=1, batch_size=20, warm_start=False, learning_rate=0.01)
    tuned = rt.transfer(source, task, strategy, run=run)
    with torch.no_grad(), run.at_work():
        logits = tuned.classifier(to_pixels(test.at_size(source.input_size).images()))
    right = float(logits[torch.arange(DIGITS), test.labels].mean())
    yield Figure("fine-tuned on digits: mean logit of the label", right, TOLERANCES["trained logit"], digest(logits))


def measured(run: rt.Run, strong: bool = False) -> list[Figure]:
    """All golden figures; under torchrun those of the main process are all, and others' are none."""
    if not is_main_process():
        return [*of_transfer(run, strong)]
    networks = (figure for name in SOURCES for figure in of_network(name, run))
    return [*networks, *of_transfer(run, strong)]


def read(path: Path = FILE) -> dict[str, Figure]:
    """Committed figures, by what they are of."""
    return {each["what"]: Figure(**each) for each in json.loads(path.read_text(encoding="utf-8"))["figures"]}


def compared(found: list[Figure], golden: dict[str, Figure]) -> list[dict[str, Any]]:
    """Each figure, the committed one, and whether they agree."""
    return [
        {
            "what": each.what,
            "value": each.value,
            "golden": golden[each.what].value,
            "verdict": each.against(golden[each.what]),
        }
        for each in found
    ]


def digest(values: Tensor) -> str:
    """16 hex digits of the bytes of ``values``."""
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["1:float32:strong"], metavar="THREADS:PRECISION[:strong]")
    parser.add_argument("--write", action="store_true", help="commit the figures of the first case as the golden ones")
    parser.add_argument("--json", type=Path, help="also write the comparisons to a file")
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from conditions import conditions

    cases = []
    for case in asked.cases:
        threads, precision, *more = case.split(":")
        found = measured(rt.Run(precision=precision, threads=int(threads), quiet=True), strong=more == [STRONG])
        if not is_main_process():
            continue
        if asked.write and case == asked.cases[0]:
            FILE.parent.mkdir(parents=True, exist_ok=True)
            facts = {"made": conditions(), "figures": [asdict(each) for each in found]}
            FILE.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        rows = compared(found, read())
        cases.append({"case": case, "rows": rows})
        print(f"{case}:")
        for row in rows:
            print(f"  {row['verdict']:<17}{row['what']}: {row['value']:.6g}, golden {row['golden']:.6g}", flush=True)
    if asked.json is not None and is_main_process():
        asked.json.write_text(json.dumps({"conditions": conditions(), "cases": cases}), encoding="utf-8")


if __name__ == "__main__":
    main()
