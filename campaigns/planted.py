"""Defences that only look robust, and networks that are honest: which raise a red flag.

python campaigns/planted.py [--quick] [--photos FOLDER] [--only NAME,...] [--rows FILE [--done]]

Planted defences are evaluated through the public call, as a user's own network would be, and attacked once more by an
adaptive attack. A defence whose figure is higher than that by more than noise and that raises no flag is a miss; a flag on
an honest network is a false alarm. ``--rows``: cases that are done already are read from FILE, and others appended to it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from adaptive import DRAWS, attacked, right
from defences import MAKERS, Bases, Defence, defence
from digit_nets import Net, digits
from honest import DESERVED, Honest, on_digits, on_photos
from record import ROOT, Count, Record

import robust_transfer as rt
from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split, to_pixels
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.statistics.intervals import wilson

EPS, THREAT, PGD, THROUGH = 0.15, "linf:0.15", "pgd-20", "+source-features"
NOISE = 0.05  # a figure that is too high by less, or by fewer than 3 images, is not
SEED = 0
Case = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """Images of planted defences and of honest networks, and the attack in question."""

    planted: int
    honest: int
    attack: str


QUICK, WHOLE = Size(20, 30, PGD), Size(200, 200, f"{PGD}+strong")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"fewer images, and {PGD} alone")
    parser.add_argument("--photos", metavar="FOLDER", help="also honest networks on photographs, such as CIFAR-10")
    parser.add_argument("--only", default="", help="names of defences; nothing is recorded")
    parser.add_argument("--rows", type=Path, help="cases that are done already; others are appended")
    parser.add_argument("--done", action="store_true", help="no more cases than those in --rows")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    size = QUICK if asked.quick else WHOLE
    wanted = asked.only.split(",") if asked.only else list(MAKERS)
    done = _read(asked.rows)
    cases: list[dict[str, Any]] = []
    more = [] if asked.done else _cases(size, wanted, asked)
    cases += done.values() if asked.done else ()
    for name, make in more:
        if name not in done:
            done[name] = make()
            if asked.rows is not None:
                with asked.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(done[name]) + "\n")
        cases.append(done[name])
        print(line(done[name]), flush=True)
    record = recorded(cases)
    if not asked.only:
        print(f"-> {record.write().relative_to(ROOT)}")
    sys.exit(1 if record.failed else 0)


def _cases(
    size: Size, wanted: list[str], asked: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    bases = Bases(digits(size.planted), SEED)
    for name in wanted:
        yield name, partial(planted, name, bases, size.attack)
    if asked.only:
        return
    for one in on_digits(digits(size.honest), SEED):
        yield one.title, partial(honest, one, size.attack)
    if asked.photos:
        for one in on_photos(asked.photos, size.honest, SEED):
            yield one.title, partial(honest, one, size.attack)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None or not path.exists():
        return {}
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {row["name"]: row for row in rows}


def planted(name: str, bases: Bases, attack: str) -> dict[str, Any]:
    """Figures of a planted defence: PGD-20, all attacks together, an adaptive attack, and its red flags."""
    torch.manual_seed(bases.seed)
    one = defence(name, bases)
    x, y = to_pixels(bases.data.test.images()), bases.data.test.labels
    found = evaluate(one, bases.data.test, attack)
    fresh = defence(name, bases)  # one that remembers no query of the evaluation
    draws = DRAWS if one.kind == "randomised" else 1
    worst = attacked(fresh.model, fresh.stand_ins, x, y, EPS, seed=bases.seed, draws=draws)
    stood = torch.tensor(list(found.outcomes["broken_by"] == ""))
    truth = float((worst * stood).mean())  # a break is a break, whoever found it
    reported = found.robust_accuracy.value
    excess = reported - truth
    return {
        "name": name,
        "kind": one.kind,
        "clean": float(right(fresh.model, x, y, draws).mean()),
        PGD: found.by_attack[PGD],
        "reported": reported,
        "adaptive": truth,
        "too high": excess * len(x) >= max(3, NOISE * len(x)),
        "flags": doubts(found.flags),
        "n": len(x),
    }


def evaluate(one: Defence, test: Split, attack: str) -> rt.Evaluation:
    """Evaluation of a defence as a user's own module; through its source, too, where the attacker has it."""
    split = test
    if one.rejects:
        split = Split.in_memory(test.images(), test.labels, (*test.class_names, "rejected"))
    source = as_source(one.source, test) if one.source is not None else None
    attack += THROUGH if source is not None and attack == PGD else ""
    return rt.evaluate(one.model, split, threat=THREAT, attack=attack, source=source, run=rt.Run(quiet=True, seed=SEED))


def as_source(net: Net, test: Split) -> Checkpoint:
    """A network's weights as a source that an attacker has."""
    classifier = Classifier.from_module(net, Preprocessing(size=8))
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=test.class_names, method="planted"))


def honest(one: Honest, attack: str) -> dict[str, Any]:
    """Figures of an honest network, and the red flags that it raised."""
    found = rt.evaluate(one.model, one.split, threat=one.threat, attack=attack, run=rt.Run(quiet=True, seed=SEED))
    return {
        "name": one.title,
        "kind": "honest",
        "clean": found.clean_accuracy.value,
        PGD: found.by_attack[PGD],
        "reported": found.robust_accuracy.value,
        "flags": doubts(found.flags),
        "n": len(one.split),
    }


def doubts(flags: list[str]) -> list[str]:
    """Red flags but for those that a network of no robustness earns."""
    return [flag for flag in flags if not any(words in flag for words in DESERVED)]


def recorded(cases: list[dict[str, Any]]) -> Record:
    """Record of all cases: hits, misses, false alarms."""
    defences = [case for case in cases if case["kind"] != "honest"]
    honests = [case for case in cases if case["kind"] == "honest"]
    flagged = [case for case in defences if case["flags"]]
    too_high = [case for case in defences if case["too high"]]
    missed = [case for case in too_high if not case["flags"]]
    alarms = [case for case in honests if case["flags"]]
    counts = (
        Count("planted defences", len(defences)),
        Count("that raise a red flag" + _share(len(flagged), len(defences)), len(flagged)),
        Count("whose figure is too high (an adaptive attack breaks more)", len(too_high)),
        Count("of these without a red flag" + _share(len(missed), len(too_high)), len(missed), must_be=0),
        Count("honest networks", len(honests)),
        Count("that raise a red flag" + _share(len(alarms), len(honests)), len(alarms), must_be=0),
    )
    return Record("planted", "Defences that only look robust", counts, seed=SEED, cases=tuple(cases))


def _share(count: int, n: int) -> str:
    if not n:
        return ""
    rate = wilson(count, n)
    return f", {100 * rate.value:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def line(case: Case) -> str:
    """Line of the table of cases."""
    adaptive = f"{100 * case['adaptive']:5.1f}" if "adaptive" in case else "     "
    flags = "; ".join(case["flags"]) or "no flag"
    figures = f"{100 * case[PGD]:5.1f} {100 * case['reported']:5.1f} {adaptive}"
    return f"{case['name']:34s} {figures}  {flags}"


if __name__ == "__main__":
    main()
