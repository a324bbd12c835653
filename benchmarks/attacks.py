"""Attacks beside those of others: seconds, robust accuracy, ratios; the share of the machine's own peak.

python benchmarks/attacks.py [--data D] [--models bundled,runs/natural] [--parts peak,pgd,suites,strong] [--examples 1000]
    [--classes 3] [--first 250] [--record autoattack.jsonl]

Every contender gets the same network (float32, evaluation mode), images, step size, number of steps and budget; all run in
this process, in turn. A model whose classes are not those of D gets a linear probe on D first; ``--classes 3`` keeps the first
three classes, of images and head. The peers are the extra `bench`; torchattacks pins an old requests and goes in by itself:
pip install -e '.[bench]' && pip install --no-deps torchattacks
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata, util
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from cases import Case, cases, quiet, untrained
from common import header
from peak import forward_seconds, peak, step_seconds
from peers import PACKAGES, PEERS, STEPS, plain
from torch import Tensor

import robust_transfer as rt
from robust_transfer import losses
from robust_transfer.attacks import PGD, parse_attack
from robust_transfer.attacks.victim import Victim
from robust_transfer.checkpoint import weights_hash
from robust_transfer.engine import Engine, choose
from robust_transfer.environment import environment


def engine_for(case: Case, run: rt.Run) -> Engine:
    """What computes our steps."""
    return choose(case.model, lambda: (case.x[:64], case.labels[:64]), run)


# ---------------------------------------------------------------- PGD-20


def pgd(case: Case, repeats: int, run: rt.Run) -> None:
    """Each contender's seconds and verdict; ours as a share of what its fastest peer's speed and our drops allow.

    The ceiling: how much faster one of our steps is than the fastest peer's, times all the steps that it takes over those
    that are needed before images break. The second one leaves time for what no step does: the float32 passes that say
    which images are right when clean and which are broken in the end.
    """
    present = {name: peer for name, peer in PEERS.items() if util.find_spec(name)}
    facts = {PACKAGES.get(name, name): metadata.version(PACKAGES.get(name, name)) for name in present}
    title = f"PGD-{STEPS} at {case.threat}, {case.name}, {case.model.num_classes} classes"
    header(title, examples=len(case.x), batch=case.batch, repeats=repeats, **facts)
    engine = engine_for(case, run)
    passes = 0

    def ours() -> Tensor:
        nonlocal passes
        result = PGD(steps=STEPS)(case.model, case.x, case.labels, case.ids, case.threat, engine=engine)
        passes = result.passes
        return result.adversarial

    contenders: dict[str, Callable[[], Tensor]] = {
        "plain loop": partial(plain, case),
        **{name: partial(peer, case) for name, peer in present.items()},
        "ours": ours,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    robust: dict[str, list[float]] = {name: [] for name in contenders}
    steps, forwards = [], []
    for _ in range(repeats):
        for name, contender in contenders.items():
            begun = time.perf_counter()
            with quiet():
                found = contender()
            seconds[name].append(time.perf_counter() - begun)
            robust[name].append(case.robust(found))
            steps.append(step_seconds(case, engine))  # as often as all the others: a slow minute meets it, too
            forwards.append(forward_seconds(case, engine))
    typical = {name: median(times) for name, times in seconds.items()}
    for name, value in typical.items():
        print(
            f"  {name:<14}{value:8.2f} s   robust {100 * median(robust[name]):5.2f} %   "
            f"ours is {value / typical['ours']:5.2f} x as fast",
            flush=True,
        )
    fastest = min((n for n in typical if n != "ours"), key=typical.__getitem__)
    step, forward, taken = median(steps), median(forwards), gradients(case, engine)
    others = passes - 2 * taken
    alone, whole = typical[fastest] / (step * taken), typical[fastest] / (step * taken + forward * others)
    reached = typical[fastest] / typical["ours"]
    print(
        f"  {engine.precision}; a step takes {1e3 * step:.3f} ms an image, {fastest}'s "
        f"{1e3 * typical[fastest] / len(case.x) / STEPS:.3f}; {taken / len(case.x):.2f} of {STEPS} steps an image are "
        f"needed, and {others / len(case.x):.2f} passes without a gradient\n"
        f"  ceiling by steps {alone:.2f} x {fastest}, with those passes {whole:.2f} x; reached {reached:.2f} x: "
        f"{reached / alone:.2f} and {reached / whole:.2f} of it",
        flush=True,
    )


def gradients(case: Case, engine: Engine) -> int:
    """How many gradients of an image ours takes."""
    taken, gradient = 0, Victim.gradient

    def counted(target: Victim, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        nonlocal taken
        taken += len(x)
        return gradient(target, x, labels, loss)

    with mock.patch.object(Victim, "gradient", counted):
        PGD(steps=STEPS)(case.model, case.x, case.labels, case.ids, case.threat, engine=engine)
    return taken


# ---------------------------------------------------------------- strong against AutoAttack itself


def strong(case: Case, seeds: int, run: rt.Run, suite: str, record: Path | None) -> None:
    """Our suite against the reference implementation, whose seed-to-seed spread is the yardstick."""
    header(
        f"strong against AutoAttack at {case.threat}, {case.name}, {case.model.num_classes} classes",
        examples=len(case.x),
        seeds=seeds,
        pyautoattack=metadata.version("pyautoattack"),
    )
    engine = engine_for(case, run)
    theirs = [reference(case, seed, engine, record) for seed in range(seeds)]
    typical, shares = median(seconds for seconds, _ in theirs), [robust for _, robust in theirs]
    for seed in range(seeds):
        begun = _clock(case)
        ours = cascade(case, suite, seed, engine)
        seconds = _clock(case) - begun
        print(
            f"  strong, seed {seed}      {seconds:8.1f} s   robust {100 * ours.robust:.2f} %   "
            f"{typical / seconds:.1f} x as fast; {ours.told}",
            flush=True,
        )
    print(f"  AutoAttack's spread: {100 * min(shares):.2f} to {100 * max(shares):.2f} %", flush=True)


def reference(case: Case, seed: int, engine: Engine, record: Path | None) -> tuple[float, float]:
    """AutoAttack's seconds and robust accuracy; blocks of images that ``record`` has are not attacked again."""
    key = {"case": case.name, "weights": weights_hash(case.model), "threat": str(case.threat), "seed": seed}
    key |= {"torch": torch.__version__, "hardware": environment()["hardware"]}
    lines = record.read_text().splitlines() if record is not None and record.exists() else []
    known = [json.loads(line) for line in lines]
    seconds, standing = 0.0, 0.0
    for start in range(0, len(case.x), case.batch):
        some = slice(start, start + case.batch)
        block = replace(case, x=case.x[some], labels=case.labels[some])
        own = {**key, "from": start, "n": len(block.x), "images": block.digest}
        found = next((line["found"] for line in known if line["key"] == own), None)
        if found is None:
            begun = _clock(case)
            theirs = cascade(block, "pyautoattack", seed, engine)
            found = {"seconds": _clock(case) - begun, "robust": theirs.robust, "passes": theirs.passes}
            if record is not None:
                with record.open("a") as file:
                    file.write(json.dumps({"key": own, "found": found}) + "\n")
        seconds, standing = seconds + found["seconds"], standing + found["robust"] * len(block.x)
    robust = standing / len(case.x)
    print(f"  AutoAttack, seed {seed}  {seconds:8.1f} s   robust {100 * robust:.2f} %", flush=True)
    return seconds, robust


@dataclass(frozen=True)
class Verdict:
    """Robust accuracy after a suite, forward-equivalent image passes, and what stood after each of its attacks."""

    robust: float
    passes: int
    told: str


def cascade(case: Case, suite: str, seed: int, engine: Engine) -> Verdict:
    """A suite, each attack on what the earlier ones left; without what needs a source or repeats float32."""
    rows, told, passes = torch.arange(len(case.x), device=case.x.device), [], 0
    for attack in parse_attack(suite):
        if attack.needs_source or (attack.precision == "float32" and engine.dtype is torch.float32) or not len(rows):
            continue
        begun = _clock(case)
        with quiet():
            result = attack(case.model, case.x[rows], case.labels[rows], rows, case.threat, seed=seed, engine=engine)
        rows, passes = rows[~result.broken], passes + result.passes
        share, seconds = 100 * len(rows) / len(case.x), _clock(case) - begun
        told.append(f"{attack} {share:.2f} ({seconds:.0f} s, {result.passes} passes)")
    return Verdict(len(rows) / len(case.x), passes, ", ".join(told))


def _clock(case: Case) -> float:
    """Seconds; on the CPU those of this process alone, since what takes hours seldom has a machine to itself."""
    return time.process_time() if case.x.device.type == "cpu" else time.perf_counter()


def suites(case: Case, run: rt.Run) -> None:
    """What each suite costs and is worth, on the same images."""
    title = f"suites at {case.threat}, {case.name}, {case.model.num_classes} classes"
    header(title, examples=len(case.x))
    engine = engine_for(case, run)
    for suite in ("pgd-20", "quick", "strong"):
        begun = _clock(case)
        found = cascade(case, suite, 0, engine)
        print(
            f"  {suite:<8}{_clock(case) - begun:8.1f} s   robust {100 * found.robust:.2f} %   "
            f"{found.passes / len(case.x):.0f} passes an image; {found.told}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="builtin:digits")
    parser.add_argument("--models", default="bundled", help="sources or results, separated by commas")
    parser.add_argument("--networks", default="", help="untrained networks whose share of the peak is told, too")
    parser.add_argument("--parts", default="peak,pgd,suites,strong")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--first", type=int, help="only the first so many of the examples: a long comparison in parts")
    parser.add_argument("--classes", type=int, help="the first so many classes only")
    parser.add_argument("--threat", default="linf:8/255")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--suite", default="strong", help="what is set against AutoAttack")
    parser.add_argument(
        "--record", type=Path, help="keep AutoAttack's figures here: they take hours, and need no repeating"
    )
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    run, parts = rt.Run(quiet=True), given.parts.split(",")
    tools: dict[str, Callable[[Case], Any]] = {
        "peak": peak,
        "pgd": lambda case: pgd(case, given.repeats, run),
        "suites": lambda case: suites(case, run),
        "strong": lambda case: strong(case, given.seeds, run, given.suite, given.record),
    }
    for case in untrained(given.networks, rt.Threat.parse(given.threat), given.batch, run):
        peak(case)
    for case in cases(given, run) if given.models else ():
        for part in parts:
            tools[part](case)


if __name__ == "__main__":
    main()
