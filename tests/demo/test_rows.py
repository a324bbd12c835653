"""The rows of the demo: which there are, and what a control has to be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers import make_classifier

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.data import Task, load_task
from robust_transfer.demo import rows
from robust_transfer.demo.rows import Contender, check_control, contenders, from_scratch, measure
from robust_transfer.errors import ConfigError, DivergedError
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.pretraining import Natural
from robust_transfer.run import Run
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:8/255")


def made(threat: str | None, seed: int = 0) -> Checkpoint:
    classifier = make_classifier(seed).eval()
    trained = Threat.parse(threat) if threat is not None else None
    card = Card(network=classifier.spec, class_names=tuple("0123456789"), method="made", threat=trained)
    return Checkpoint(classifier, card)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task("builtin:digits", shots=10, seed=0)


def test_the_rows_in_the_order_of_the_table(task: Task) -> None:
    def listed(control: Checkpoint | None, scratch: bool) -> list[tuple[str, str]]:
        return [(c.group, c.name) for c in contenders(made("linf:8/255"), control, task, THREAT, scratch=scratch)]

    names = ("linear-probe", "fine-tune", "lwf")
    source, control = ([(group, name) for name in names] for group in ("source", "control"))
    rivals = [("scratch", "natural training"), ("scratch", "adversarial training")]
    assert listed(made(None), True) == [*source, *control, *rivals]
    assert listed(None, True) == [*source, *rivals]
    assert listed(made(None), False) == [*source, *control]


def test_a_control_is_natural_and_of_the_same_shape() -> None:
    source = made("linf:8/255")
    check_control(source, made(None))
    with pytest.raises(ConfigError, match=r"trained for l2:0\.5: give a naturally trained network"):
        check_control(source, made("l2:0.5"))
    other = made(None)
    wider = dataclasses.replace(
        other.card, network=dataclasses.replace(other.card.network, preprocessing=Preprocessing(size=16))
    )
    with pytest.raises(
        ConfigError, match="the control is a wrn_16_1 at 16 pixels and the source a wrn_16_1 at 8 pixels"
    ):
        check_control(source, Checkpoint(other.classifier, wider))


@pytest.mark.parametrize(("images", "epochs"), [(80, 20), (160, 10), (400, 8), (50_000, 8)])
def test_few_images_are_shown_more_often(images: int, epochs: float) -> None:
    assert {method.epochs for method in from_scratch(images).values()} == {epochs}


def test_a_network_from_scratch_has_the_sources_shape_and_none_of_its_weights(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "from_scratch", lambda n: {"natural training": Natural(epochs=20, batch_size=16)})
    source = made("linf:8/255")
    [one] = [c for c in contenders(source, None, task, THREAT, scratch=True) if c.group == "scratch"]
    result = one.make(Run(quiet=True))
    mine, its = (dataclasses.replace(c.card.network, num_classes=10) for c in (source, result))
    assert mine == its
    assert result.card.source is None
    old, new = (dict(c.classifier.named_parameters()) for c in (source, result))
    assert not any(torch.equal(old[name], new[name]) for name in old if old[name].dim() == 4)


def test_training_that_comes_to_nothing_is_told_and_ends_the_demo_only_for_a_strategy(
    task: Task, tmp_path: Path
) -> None:
    def diverges(run: Run) -> Checkpoint:
        raise DivergedError("training diverged")

    fine = contenders(made("linf:8/255"), None, task, THREAT, scratch=False)[:1]
    wanted = [*fine, Contender("scratch", "natural training", diverges)]
    found, failed = measure(wanted, task, THREAT, examples=20, run=Run(quiet=True), folder=tmp_path / "a")
    assert [row.name for row in found] == ["linear-probe"]
    assert failed == {"natural training": "training diverged"}
    [figures] = [row.figures() for row in found]
    assert figures["clean"]["n"] == 20
    assert (figures["adversarial_examples"], figures["cost"] > 0) == (0, True)
    assert found[0].deltas is not None
    with pytest.raises(DivergedError):
        measure([Contender("source", "lwf", diverges)], task, THREAT, examples=20, run=Run(), folder=tmp_path / "b")
