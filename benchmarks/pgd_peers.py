"""PGD-20 against other implementations: seconds, survivors, and the share reached of the possible speed-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata, util
from statistics import median
from unittest import mock

from cases import Case, engine_for, quiet
from common import header, measured, timed
from peak import forward_seconds, step_seconds
from peers import PACKAGES, PEERS, STEPS, plain
from table import Row
from torch import Tensor

import robust_transfer as rt
from robust_transfer import losses
from robust_transfer.attacks import PGD
from robust_transfer.attacks.victim import Victim
from robust_transfer.engine import Engine

OURS, STEP, PASS = "ours", "a step of ours, an image", "a pass of ours, an image"


def pgd(case: Case, repeats: int, run: rt.Run) -> list[Row]:
    """Each contender's seconds and verdict, in turn; ours as a share of what its fastest peer's speed and our drops allow.

    The ceiling: how much faster one of our steps is than the fastest peer's, times all the steps that it takes over those
    that are needed before images break. The second one leaves time for what no step does: the float32 passes that say
    which images are right when clean and which are broken in the end.
    """
    present = {name: peer for name, peer in PEERS.items() if util.find_spec(name)}
    facts = {PACKAGES.get(name, name): metadata.version(PACKAGES.get(name, name)) for name in present}
    what = f"PGD-{STEPS} at {case.threat}, {len(case.x)} images, {case.name}, {case.model.num_classes} classes"
    header(what, batch=case.batch, repeats=repeats, **facts)
    for name in [name for name in PEERS if name not in present]:
        print(f"  {name} is not installed: left out", flush=True)
    engine = engine_for(case, run, [PGD(steps=STEPS)])
    passes = 0

    def ours() -> Tensor:
        nonlocal passes
        result = PGD(steps=STEPS)(case.model, case.x, case.labels, case.ids, case.threat, engine=engine)
        passes = result.passes
        return result.adversarial

    contenders: dict[str, Callable[[], Tensor]] = {
        "plain loop": partial(plain, case),
        **{name: partial(peer, case) for name, peer in present.items()},
        OURS: ours,
    }
    robust: dict[str, list[float]] = {name: [] for name in contenders}
    found: list[Tensor] = []

    def attack(name: str) -> float:
        with quiet():
            seconds = timed(lambda: found.append(contenders[name]()))
        robust[name].append(100 * case.robust(found.pop()))
        return seconds

    tasks: dict[str, Callable[[], float]] = {name: partial(attack, name) for name in contenders}
    tasks |= {STEP: lambda: step_seconds(case, engine), PASS: lambda: forward_seconds(case, engine)}
    rows = measured(what, tasks, repeats)
    ceiling(case, engine, rows, [name for name in contenders if name != OURS], passes)
    return [replace(rows[name], note=f"{median(robust[name]):.2f} % stand") for name in contenders]


def ceiling(case: Case, engine: Engine, rows: dict[str, Row], peers: list[str], passes: int) -> None:
    """Print how fast ours could be beside the fastest peer, and how much of that it is. ``passes``: those that it made."""
    fastest = min((rows[name] for name in peers), key=lambda row: row.median)
    step, forward, taken = rows[STEP].median, rows[PASS].median, gradients(case, engine)
    others = passes - 2 * taken
    alone, whole = fastest.median / (step * taken), fastest.median / (step * taken + forward * others)
    reached = fastest.median / rows[OURS].median
    print(
        f"  {engine.precision}; a step takes {1e3 * step:.3f} ms an image, {fastest.name}'s "
        f"{1e3 * fastest.median / len(case.x) / STEPS:.3f}; {taken / len(case.x):.2f} of {STEPS} steps an image are "
        f"needed, and {others / len(case.x):.2f} passes without a gradient\n"
        f"  ceiling by steps {alone:.2f} x {fastest.name}, with those passes {whole:.2f} x; reached {reached:.2f} x: "
        f"{reached / alone:.2f} and {reached / whole:.2f} of it",
        flush=True,
    )


def gradients(case: Case, engine: Engine) -> int:
    """Number of our gradients per image."""
    taken, gradient = 0, Victim.gradient

    def counted(target: Victim, x: Tensor, labels: Tensor, loss: losses.Loss) -> tuple[Tensor, Tensor]:
        nonlocal taken
        taken += len(x)
        return gradient(target, x, labels, loss)

    with mock.patch.object(Victim, "gradient", counted):
        PGD(steps=STEPS)(case.model, case.x, case.labels, case.ids, case.threat, engine=engine)
    return taken
