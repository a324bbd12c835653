"""Soups: the average by hand, the greedy choice, and what is measured."""

from __future__ import annotations

import pytest
import torch
from helpers import QUIET, make_source

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import Task
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.strategies import FineTune, LwF, Soup, transfer
from robust_transfer.strategies.curve import Candidate, Front
from robust_transfer.strategies.soup import average


def test_the_average_is_the_mean_of_weights_and_buffers() -> None:
    members = [make_source(seed=seed).classifier for seed in range(3)]
    members[1].get_buffer("body.units.0.bn1.num_batches_tracked").fill_(7)
    found = average(members).state_dict()
    for name, value in found.items():
        states = [member.state_dict()[name] for member in members]
        wanted = (states[0] + states[1] + states[2]) / 3 if value.is_floating_point() else states[0]
        torch.testing.assert_close(value, wanted)


def test_members_are_what_their_strategies_train(source: Checkpoint, task: Task) -> None:
    assert source.card.threat is not None
    front = Front(task, source.card.threat, QUIET)
    Soup(epochs=1, head="new", l2=0.1, strengths=(0.0, 1.0)).walk(front, source, task, QUIET)
    wanted = [
        transfer(source, task, strategy, run=QUIET).classifier.state_dict()
        for strategy in (FineTune(epochs=1, head="new", l2=0.1), LwF(epochs=1, head="new", l2=0.1))
    ]
    for point, state in zip(front.found[1:3], wanted, strict=True):
        for name, value in point.classifier.state_dict().items():
            torch.testing.assert_close(value, state[name])
    uniform = next(point for point in front.found if point.kind == "uniform soup")
    assert uniform.settings == {"members": 3}
    head = torch.stack([point.classifier.get_parameter("head.weight") for point in front.found[:3]]).mean(0)
    torch.testing.assert_close(uniform.classifier.get_parameter("head.weight"), head)


class Scripted(Front):
    """Points whose figures are given, by the number of networks in them."""

    def __init__(self, figures: list[tuple[float, float]]) -> None:
        self.figures, self.found, self.events, self.notes = iter(figures), [], [], {}

    def add(self, kind: str, classifier: Classifier, *, anchor: bool = False, **settings: float | None) -> Candidate:
        clean, robust = next(self.figures)
        self.found.append(Candidate(kind, settings, clean, robust, classifier, anchor))
        return self.found[-1]


def test_the_greedy_soup_keeps_what_does_not_lower_the_sum(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_source().classifier
    monkeypatch.setattr("robust_transfer.strategies.soup.trained_from", lambda *_: made)
    monkeypatch.setattr(
        Soup, "robust_end", lambda self, front, *_: front.add("linear-probe", made, anchor=True) and None
    )
    # anchor .6, members .7, .9, .8 in order of strengths; uniform; then .9 + .8 rises, + .7 falls, + .6 equals
    figures = [(0.5, 0.1), (0.6, 0.1), (0.8, 0.1), (0.7, 0.1), (0.1, 0.1), (0.9, 0.1), (0.85, 0.1), (0.9, 0.1)]
    front = Scripted(figures)
    Soup(strengths=(0.0, 1.0, 2.0)).walk(front, source, task, QUIET)
    assert [str(point) for point in front.found[5:]] == [
        "greedy soup, members = 2", "greedy soup, members = 3", "greedy soup, members = 3",
    ]  # fmt: skip
    assert front.notes["greedy_soup"] == ["member, strength = 1", "member, strength = 2", "linear-probe"]


def test_members_that_diverge_are_left_out_and_told(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*_: object) -> None:
        raise DivergedError("the loss exploded")

    monkeypatch.setattr("robust_transfer.strategies.soup.trained_from", diverges)
    card = transfer(source, task, Soup.from_settings(Soup.quick), run=QUIET).card
    assert [point["kind"] for point in card.metrics["front"]] == ["linear-probe"]
    assert any("exploded" in event for event in card.events)


@pytest.mark.parametrize("strengths", [(), (-1.0,), (1.0, 1.0)])
def test_strengths_differ_and_are_not_negative(strengths: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="strengths"):
        Soup(strengths=strengths)
