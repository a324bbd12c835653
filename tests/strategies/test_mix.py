"""The strategy of mixtures: its ends, what is measured, what it costs, and that val attacks both networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers import QUIET, make_classifier, make_source

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import BothLogits, mixed_head, mixture
from robust_transfer.monitor import Validation
from robust_transfer.strategies import FineTune, LinearProbe, Mix, transfer
from robust_transfer.strategies.curve import Front
from robust_transfer.strategies.mix import SEEN_ATTACK
from robust_transfer.strategies.mixing_grid import Estimate
from robust_transfer.threat import Threat

SMALL = Mix(epochs=1, head="new", l2=0.1, shares=(0.6, 0.95), spreads=(5.0, 20.0), powers=(2.0,), levels=(0.5, 1.0))


@pytest.fixture(scope="module")
def source() -> Checkpoint:
    return make_source(threat="linf:8/255")


def test_its_parts_are_the_probe_and_its_fine_tuning(source: Checkpoint, task: Task) -> None:
    assert source.card.threat is not None
    front = Front(task, source.card.threat, QUIET)
    SMALL.walk(front, source, task, QUIET)
    probe = transfer(source, task, LinearProbe(l2=0.1), run=QUIET).classifier
    tuned = transfer(source, task, FineTune(epochs=1, head="new", l2=0.1), run=QUIET).classifier
    x = to_pixels(task.val.images())
    anchor, *mixtures = front.found
    assert anchor.anchor
    assert mixtures
    for point in mixtures:
        assert point.kind == "mix"
        torch.testing.assert_close(
            BothLogits(point.classifier)(x), torch.cat([probe(x), tuned(x)], 1), rtol=1e-4, atol=1e-4
        )
        head = mixed_head(point.classifier)
        assert head is not None
        numbers = {name: float(getattr(head, name)) for name in ("scale", "power", "shift")}
        assert {**numbers, "share": 1 - float(head.rest)} == pytest.approx(point.settings, rel=1e-5)
    grid = front.notes["grid"]
    assert grid["mixtures"] == 2 * 2 * 1 * 3
    assert grid["attack"] == str(SEEN_ATTACK)
    assert front.cost.passes > grid["passes"] > 3 * len(task.val)
    with torch.no_grad():
        right = int((probe(x).argmax(1) == task.val.labels).sum())
    assert 0 < right < len(task.val)
    assert front.cost.adversarial_examples == right


def test_each_level_takes_the_most_accurate_that_keeps_so_much() -> None:
    def estimate(clean: float, robust: float) -> Estimate:
        return Estimate(Mixing(share=0.5 + clean / 2), clean, robust)

    found = [estimate(0.9, 0.1), estimate(0.8, 0.3), estimate(0.7, 0.38), estimate(0.6, 0.4)]
    strategy = Mix(levels=(0.7, 0.72, 1.0))
    assert strategy.chosen(found, most=0.4) == [found[1], found[3]]  # each once
    asked = Mix(levels=(1.0,), clean=0.85)
    assert asked.chosen(found, most=0.4) == [found[3], found[0]]
    assert asked.points() == 3


def test_val_attacks_a_mixture_through_both_networks(task: Task) -> None:
    """A fragile network behind a map without a gradient: PGD alone would call it robust."""
    fragile, constant = make_classifier(1).eval(), make_classifier(2).eval()
    torch.nn.init.zeros_(constant.get_parameter("head.weight"))
    mix = mixture(fragile, constant, Mixing(share=0.6, scale=1e4, power=8.0, shift=-0.5))
    x = to_pixels(task.val.images())
    with torch.no_grad():
        own = Split.in_memory(task.val.images(), mix(x).argmax(1), task.class_names)
    threat = Threat.parse("linf:20/255")
    look = Validation(own, threat, QUIET)
    masked = look(mix)
    assert masked["clean_accuracy"] == 1
    through = look.cost
    plain = Validation(own, threat, QUIET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robust_transfer.monitor.mixed_head", lambda _: None)
        flattering = plain(mix)
    assert flattering["robust_accuracy"] > 0.8
    assert masked["robust_accuracy"] < 0.2
    assert through.passes > plain.cost.passes
    assert through.adversarial_examples == plain.cost.adversarial_examples == len(own)
    wrong = Split.in_memory(
        own.images(), torch.where(torch.arange(len(own)) < 3, (own.labels + 1) % 10, own.labels), own.class_names
    )
    some = Validation(wrong, threat, QUIET)
    some(mix)
    assert some.cost.adversarial_examples == len(own) - 3, "what is wrong when clean is not attacked"


def test_two_classes_are_said_to_leave_little(task: Task, source: Checkpoint) -> None:
    def halves(split: Split) -> Split:
        return Split.in_memory(split.images(), (split.labels >= 5).long(), ("low", "high"))

    two = dataclasses.replace(
        task, train=halves(task.train), val=halves(task.val), test=halves(task.train).subset(torch.arange(0))
    )
    events = transfer(source, two, dataclasses.replace(SMALL, levels=(0.9,)), run=QUIET).card.events
    assert any("layer normalisation leaves only which is larger" in event for event in events)


def test_a_head_that_is_kept_must_be_linear(task: Task) -> None:
    mix = mixture(make_classifier(1).eval(), make_classifier(2).eval(), Mixing(share=0.6))
    card = Card(network=mix.spec, class_names=task.class_names, method="made", threat=Threat.parse("linf:8/255"))
    with pytest.raises(ConfigError, match="head=new"):
        transfer(Checkpoint(mix, card), task, Mix(), run=QUIET)


@pytest.mark.parametrize(
    "wrong",
    [{"shares": ()}, {"shares": (0.4,)}, {"powers": (0.5,)}, {"spreads": (0.0,)}, {"levels": (0.0,)}, {"levels": ()}],
)
def test_grids_of_what_is_no_mixture_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Mix(**wrong)
