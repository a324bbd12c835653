"""Attacks by name: ``pgd-20``, ``pgd-20:loss=margin,restarts=10``, ``fgsm``, several joined with ``+``, and suites.

The inverse is ``str(attack)``, the name under which an attack stands in ``by_attack`` and ``broken_by``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from robust_transfer.attacks.base import ATTACKS, Attack
from robust_transfer.config import expect, parse_settings
from robust_transfer.errors import ConfigError, UnknownNameError
from robust_transfer.registry import unknown

# Chosen greedily from logs of single attacks, on networks and images that no verdict is reported on (docs/trust.md).
LOSSES_IN_TURN = "pgd-30:step=2.0,schedule=cosine,then=margin"
NEAREST = "apgd-t-20:targets=2,scanned=9"
# A few steps tell which class gives way first; all others are taken towards that one.
OTHERWISE = "apgd-t-100:targets=4,loss=probability,trial=5,finalists=1"
SUITES: dict[str, str] = {
    "quick": "pgd-10+pgd-10:loss=margin",  # two losses: each finds breaks that the other misses
    "strong": f"{LOSSES_IN_TURN}+{NEAREST}+{OTHERWISE}+square-50+source-features+{NEAREST},precision=float32",
    "autoattack": "strong+pyautoattack",
}
JOINED = r"\+(?!\d)"  # 1e+3 is a number


def parse_attack(text: str | Attack | Sequence[Attack]) -> list[Attack]:
    """Attacks that ``text`` names, in the order in which they are run; an attack named twice is run once.

    Raises :class:`UnknownNameError` for an unknown name and :class:`ConfigError` for settings that do not fit.
    """
    if isinstance(text, Attack):
        return [text]
    if not isinstance(text, str):
        expect("attack", text, str, Attack, Sequence, hint="such as 'pgd-20' or PGD()")
        for attack in text:
            expect("each of several attacks", attack, Attack, hint="or give one text, such as 'pgd-20+fgsm'")
        attacks = list(text)
    else:
        attacks = []
        for part in re.split(JOINED, text):
            name = part.strip()
            attacks += parse_attack(SUITES[name]) if name in SUITES else [_one(name)]
    if not attacks:
        raise ConfigError("no attack is given: name one, such as pgd-20")
    return list({str(attack): attack for attack in attacks}.values())


def left_out(text: str | Attack | Sequence[Attack], attacks: Sequence[Attack]) -> list[Attack]:
    """Attacks among ``attacks`` that need the source and came from a suite.

    Raises :class:`ConfigError` for one that ``text`` names itself.
    """
    needing = [attack for attack in attacks if attack.needs_source]
    parts = [part.strip() for part in re.split(JOINED, text)] if isinstance(text, str) else []
    asked = [_one(part) for part in parts if part not in SUITES] if isinstance(text, str) else list(attacks)
    for attack in needing:
        if attack in asked:
            raise ConfigError(f"{attack} attacks by the network that the model was transferred from: give --source")
    return needing


def with_parts(text: str | Attack | Sequence[Attack], attacks: Sequence[Attack]) -> list[Attack]:
    """``attacks`` on a mixture of two networks: where ``text`` names a suite, what attacks mixtures is its last stage."""
    parts = [part.strip() for part in re.split(JOINED, text)] if isinstance(text, str) else []
    more = [ATTACKS.get(name)() for name in ATTACKS.names() if ATTACKS.get(name).needs_parts]
    return parse_attack([*attacks, *more]) if any(part in SUITES for part in parts) else list(attacks)


def without_source(text: str | Attack | Sequence[Attack]) -> list[Attack]:
    """Attacks named by ``text``, without those that a suite brings in and that need a source; see :func:`left_out`."""
    named = parse_attack(text)
    without = left_out(text, named)
    return [attack for attack in named if attack not in without]


def attack_name(attacks: Sequence[Attack]) -> str:
    """Canonical name of several attacks; :func:`parse_attack` reads it."""
    return "+".join(str(attack) for attack in attacks)


@functools.cache
def spoken(attack: str) -> str:
    """Display name for the output of :func:`attack_name`: the suite's, if these are its attacks; otherwise unchanged.

    Attacks that a suite leaves out by itself may be missing: those that need a source, and the repetition in float32. What
    it takes up for a mixture is named beside it.
    """
    named = re.split(JOINED, attack)
    needing = [name for name in ATTACKS.names() if ATTACKS.get(name).needs_parts]
    beside = [one for one in named if _name_and_number(one.partition(":")[0])[0] in needing]
    given = [one for one in named if one not in beside]
    for name, members in SUITES.items():
        attacks = parse_attack(members)
        must = [str(one) for one in attacks if not one.needs_source and one.precision != "float32"]
        if set(must) <= set(given) <= {str(one) for one in attacks}:
            return "+".join([name, *beside])
    return attack


def _one(text: str) -> Attack:
    head, colon, tail = text.partition(":")
    name, number = _name_and_number(head.strip().lower())
    if name not in ATTACKS.names():
        raise UnknownNameError(unknown("attack", name or text, [*ATTACKS.names(), *SUITES]))
    cls, what = ATTACKS.get(name), f"attack {name!r}"
    settings = inline_settings(tail, text, "attack", "pgd-20:loss=margin") if colon else {}
    if number is not None:
        if cls.count is None:
            raise ConfigError(f"{what} takes no number: write {name}, not {head.strip()}")
        if cls.count in settings:
            raise ConfigError(f"{text!r} gives {cls.count} twice: leave out one of them")
        settings[cls.count] = number
    return cls.from_settings(settings)


def _name_and_number(head: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+)-(\d{1,9})", head)
    if head in ATTACKS.names() or match is None:
        return head, None
    return match[1], int(match[2])


def inline_settings(tail: str, text: str, kind: str, example: str) -> dict[str, Any]:
    """Settings behind the colon of ``text``, which names a thing of this ``kind``; :class:`ConfigError` as in ``example``."""
    pairs = [pair.strip() for pair in tail.split(",")]
    keys = [pair.partition("=")[0].strip() for pair in pairs]
    for pair, key in zip(pairs, keys, strict=True):
        if "=" not in pair or not key:
            raise ConfigError(f"cannot read {pair!r} in the {kind} {text!r}: write key=value, as in {example}")
        if keys.count(key) > 1:
            raise ConfigError(f"{text!r} gives {key} twice: leave out one of them")
    return parse_settings(pairs)
