"""Golden figures of the packaged sources, on images that are computed and on builtin:digits; docs/survival/golden/figures.json.

python campaigns/golden.py [--threads 1] [--precision float32] [--write]

Without ``--write`` the figures are compared with the committed ones. Under torchrun the training is that of all processes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import robust_transfer as rt
from robust_transfer.launch import is_main_process

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "survival" / "golden" / "figures.json"
SOURCES = ("bundled", "natural", "bundled-64")
PICTURES, ATTACKED, DIGITS = 16, 4, 12
NOBODY = {"red_flag_examples": 0, "transfer_attack_examples": 0}  # further attacks, which are none of these figures
# What may differ: rounding, which no version or CPU promises to do alike. CONTRIBUTING.md says what they were measured against.
TOLERANCES = {"margin": 0.005, "attacked margin": 0.05}
ONE = 1.0  # accuracies are counts, of which one image may differ


@dataclass(frozen=True)
class Figure:
    """``value`` of ``what`` (accuracies: number of images), which may differ by ``tolerance``; ``digest``: of all that it was made of."""

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
        b"".join(hashlib.sha256(bytes([number, part])).digest() for number in range(count) for part in range(3)), np.uint8
    )
    grid = coarse.reshape(count, 3, 32)[:, :, :25].reshape(count, 3, 5, 5).astype(np.int64)
    at = np.arange(size) * 4
    cell, rest = at // size, at % size
    rows = grid[:, :, cell] * (size - rest)[:, None] + grid[:, :, cell + 1] * rest[:, None]
    both = rows[..., cell] * (size - rest) + rows[..., cell + 1] * rest
    return (both // (size * size)).astype(np.uint8)


def of_network(name: str, run: rt.Run) -> Iterator[Figure]:
    """Figures of a source as it is: the mean margin of its own answers, and how many of them stand under PGD-20 at 2/255."""
    source = rt.load_source(name)
    images = pictures(source.input_size)
    with torch.no_grad(), run.at_work():
        logits = source.classifier(torch.from_numpy(images).float() / 255)
    first, second = logits.topk(2, dim=1).values.T
    margin = float((first - second).mean())
    yield Figure(f"{name}: margin", margin, TOLERANCES["margin"], digest(logits))
    split = rt.Split.in_memory(images[:ATTACKED], logits[:ATTACKED].argmax(1), source.card.class_names)
    yield from under_attack(name, source, split, "linf:2/255", "pgd-20", run)


def under_attack(
    name: str, model: rt.Checkpoint, split: rt.Split, threat: str, attack: str, run: rt.Run, clean: bool = False
) -> Iterator[Figure]:
    """Figures of an evaluation: images that stand, and the mean of their worst margins."""
    found = rt.evaluate(model, split, threat=threat, attack=attack, run=run, **NOBODY)
    whole = digest(torch.from_numpy(found.outcomes["margin"].to_numpy(copy=True)))
    n = len(split)
    if clean:
        yield Figure(f"{name}: right of {n}", n * found.clean_accuracy.value, ONE, whole)
    yield Figure(f"{name}: right of {n} under {attack} at {threat}", n * found.robust_accuracy.value, ONE, whole)
    worst = float(found.outcomes["margin"].mean())
    yield Figure(f"{name}: margin under {attack} at {threat}", worst, TOLERANCES["attacked margin"], whole)


def of_transfer(run: rt.Run) -> Iterator[Figure]:
    """Figures of ``bundled`` transferred to digits: a probe under PGD-20 and ``strong``, and an epoch of fine-tuning."""
    source, task = rt.load_source("bundled"), rt.load_task("builtin:digits", shots=12, seed=0)
    test = task.test.subset(torch.arange(DIGITS))
    if is_main_process():
        name = "probe on digits"
        probe = rt.transfer(source, task, rt.LinearProbe(l2=0.1), run=run)
        yield from under_attack(name, probe, test, "linf:8/255", "pgd-20", run, clean=True)
        yield from under_attack(name, probe, test.subset(torch.arange(ATTACKED)), "linf:8/255", "strong", run)
    strategy = rt.FineTune(epochs=1, batch_size=20, warm_start=False, learning_rate=0.01)
    tuned = rt.transfer(source, task, strategy, run=run)
    if is_main_process():
        yield from under_attack("fine-tuned on digits", tuned, test, "linf:2/255", "fgsm", run, clean=True)


def measured(run: rt.Run) -> list[Figure]:
    """All golden figures; under torchrun those of the main process are all, and others' are none."""
    networks = SOURCES if is_main_process() else ()
    return [*(figure for name in networks for figure in of_network(name, run)), *of_transfer(run)]


def read(path: Path = FILE) -> dict[str, Figure]:
    """Committed figures, by what they are of."""
    return {each["what"]: Figure(**each) for each in json.loads(path.read_text(encoding="utf-8"))["figures"]}


def compared(found: list[Figure], golden: dict[str, Figure]) -> list[dict[str, object]]:
    """Each figure, the committed one, and whether they agree."""
    return [
        {"what": each.what, "value": each.value, "golden": golden[each.what].value, "verdict": each.against(golden[each.what])}
        for each in found
    ]


def digest(values: Tensor) -> str:
    """16 hex digits of the bytes of ``values``."""
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "auto"))
    parser.add_argument("--write", action="store_true", help="commit these figures as the golden ones")
    parser.add_argument("--json", type=Path, help="also write the comparison to a file")
    asked = parser.parse_args()
    found = measured(rt.Run(precision=asked.precision, threads=asked.threads, quiet=True))
    if not is_main_process():
        return
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from conditions import conditions

    if asked.write:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        facts = {"made": conditions(), "figures": [asdict(each) for each in found]}
        FILE.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = compared(found, read())
    if asked.json is not None:
        asked.json.write_text(json.dumps({"conditions": conditions(), "rows": rows}), encoding="utf-8")
    for row in rows:
        print(f"{row['verdict']:<17}{row['what']}: {row['value']:.6g}, golden {row['golden']:.6g}")


if __name__ == "__main__":
    main()
