"""One table of frequent waits: steps of attacks, PGD-20, the share of the peak, `strong`, a probe, `list`.

python benchmarks/overview.py [--quick] [--parts steps,pgd,peak,strong,probe,list] [--repeats 3]

For the time before a change and after it: each part is a small case of another script's, which says more about it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from cases import Case, cases, untrained
from common import finish, header, measured, parsed, timed
from peak import peak, step_seconds
from pgd_peers import pgd
from startup import commands, starts
from strong import strong
from table import Row
from transfer import structured_labels

import robust_transfer as rt
from robust_transfer.engine import Engine
from robust_transfer.strategies.linear_probe import PATH
from robust_transfer.strategies.softmax import solve_path

RUN, THREAT = rt.Run(quiet=True), "linf:8/255"


def steps(given: argparse.Namespace) -> list[Row]:
    """A gradient step of PGD on the bundled source, in each way to compute it."""
    device, model = RUN.torch_device(), rt.load_source("bundled").classifier
    x, labels = torch.rand(128, 3, 32, 32, device=device), torch.zeros(128, dtype=torch.long, device=device)
    case = Case("bundled", model.to(device).eval().requires_grad_(True), x, labels, rt.Threat.parse(THREAT), 128)
    rows: list[Row] = []
    ways = {
        f"{str(dtype).removeprefix('torch.')}{', compiled' if compiled else ''}": Engine(dtype, compiled=compiled)
        for dtype in dict.fromkeys((torch.float32, RUN.dtype()))
        for compiled in (False, True)
    }
    if RUN.dtype() is torch.float32:
        print("bfloat16 gains nothing on this hardware: left out", flush=True)
    for n in (32, 128):
        what = f"a PGD step of the bundled source, {n} images in a pass"
        header(what, repeats=given.repeats)

        def milliseconds(engine: Engine, n: int = n) -> float:
            return 1e3 * step_seconds(case, replace(engine, sizes=(n,)), n)

        tasks: dict[str, Callable[[], float]] = {name: partial(milliseconds, way) for name, way in ways.items()}
        rows += measured(what, tasks, given.repeats, unit="ms an image").values()
    return rows


def attacked(images: int) -> Case:
    """A linear probe of the bundled source, and images of the built-in digits."""
    what = {"data": "builtin:digits", "models": "bundled", "classes": None, "first": None, "threat": THREAT}
    return next(cases(argparse.Namespace(**what, examples=images, batch=min(images, 250)), RUN))


def probe(given: argparse.Namespace) -> list[Row]:
    """The whole path of a linear probe, from features."""
    generator = torch.Generator().manual_seed(0)
    features, classes = torch.randn(688, 256, generator=generator).relu(), 43
    labels = structured_labels(features, classes)
    what = f"probe of 688 x 256 features, {classes} classes, {len(PATH)} strengths"
    header(what, repeats=given.repeats)
    task = {"whole path": lambda: timed(lambda: solve_path(features, labels, classes, PATH))}
    return list(measured(what, task, given.repeats).values())


def whole_peak(given: argparse.Namespace) -> list[Row]:
    """Steps of WRN-16-2 beside matrix products: the ratio is the share of the peak."""
    [case] = untrained("wrn_16_2", rt.Threat.parse(THREAT), 64, RUN)
    return peak(case, given.repeats, by_layer=False)


def listing(given: argparse.Namespace) -> list[Row]:
    """`list strategies`, which loads no PyTorch."""
    header("list strategies", repeats=given.repeats)
    return starts({"list strategies": commands(Path())["list strategies"]}, given.repeats)


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "steps": steps,
    "pgd": lambda given: pgd(attacked(given.images), given.repeats, RUN),
    "peak": whole_peak,
    "strong": lambda given: strong(attacked(given.strong_images), 1, RUN, "strong", None),
    "probe": probe,
    "list": listing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=200, help="for PGD-20")
    parser.add_argument("--strong-images", type=int, default=20, help="AutoAttack takes seconds for each")
    given = parsed(parser, repeats=1, images=32, strong_images=2)
    logging.disable(logging.WARNING)
    finish([row for name in given.parts.split(",") for row in PARTS[name](given)], given.rows)


if __name__ == "__main__":
    main()
