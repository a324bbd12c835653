"""Readings of a source: on a grid and mirrored, with the logits that it had."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from helpers import make_classifier, make_digits, make_source

import robust_transfer as rt
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.heads import HeadSpec, new_mlp
from robust_transfer.networks.wide_resnet import WideResNet
from robust_transfer.strategies.base import STRATEGIES
from robust_transfer.strategies.reading import read
from robust_transfer.strategies.softmax import solve_path
from robust_transfer.threat import Threat

SIZE = make_source().input_size
IMAGES = torch.rand(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def logits(source: Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(source.classifier.eval()(IMAGES))


def test_the_source_itself_where_nothing_is_asked_for() -> None:
    source = make_source()
    assert read(source, 1, False) is source


def test_the_logits_stay_on_a_grid_that_divides_the_maps() -> None:
    source = make_source()
    before = logits(source)
    gridded = read(source, 2, False)
    assert gridded.classifier.num_features == 4 * source.classifier.num_features
    assert not gridded.headless
    torch.testing.assert_close(logits(gridded), before)
    assert torch.equal(logits(source), before), "the source is not changed"


def test_mirrored_logits_are_the_mean_of_both() -> None:
    source = make_source()
    with torch.no_grad():
        expected = (source.classifier.eval()(IMAGES) + source.classifier(IMAGES.flip(3))) / 2
    torch.testing.assert_close(logits(read(source, 2, True)), expected)


def test_another_grid_has_no_head_to_keep() -> None:
    classifier = make_classifier(size=16).eval()  # with maps of 4x4
    source = dataclasses.replace(
        make_source(), classifier=classifier, card=dataclasses.replace(make_source().card, network=classifier.spec)
    )
    gridded = read(source, 3, False)
    assert gridded.headless
    assert gridded.classifier.num_features == 9 * classifier.num_features
    assert not any(bool(weights.any()) for weights in gridded.classifier.head.parameters())


def test_a_perceptron_is_not_kept() -> None:
    source, how = make_source(), HeadSpec(hidden=(8,))
    head = new_mlp(source.classifier.num_features, 10, how, torch.Generator().manual_seed(1))
    classifier = source.classifier.with_layers(head, how)
    source = dataclasses.replace(
        source, classifier=classifier, card=dataclasses.replace(source.card, network=classifier.spec)
    )
    assert read(source, 2, False).headless
    mirrored = read(source, 1, True)
    assert not mirrored.headless
    with torch.no_grad():
        expected = head((classifier.eval().features(IMAGES) + classifier.features(IMAGES.flip(3))) / 2)
    torch.testing.assert_close(logits(mirrored), expected)


def test_a_reading_is_not_read_again() -> None:
    for reading in (read(make_source(), 2, False), read(make_source(), 1, True)):
        with pytest.raises(ConfigError, match="already"):
            read(reading, 2, True)


@pytest.mark.parametrize("grid", [0, -1])
def test_a_grid_without_cells_is_refused(grid: int) -> None:
    with pytest.raises(ConfigError, match="grid"):
        rt.LinearProbe(grid=grid)


def test_a_probe_on_a_grid_is_solved_on_the_means_of_cells(tmp_path: Path) -> None:
    source, task = make_source(), make_digits(train=60, val=0, test=10)
    made = rt.LinearProbe(l2=0.1, grid=2, mirror=True)(source, task, run=rt.Run(out=tmp_path / "probe"))
    body, x = source.classifier.eval(), to_pixels(task.train.prepared(source.preprocessing).images())

    def cells(images: torch.Tensor) -> torch.Tensor:
        normal = body.normalise(images.contiguous(memory_format=torch.channels_last))
        return F.adaptive_avg_pool2d(cast(WideResNet, body.body).forward_features(normal), 2).flatten(1)

    with torch.no_grad():
        z = (cells(x) + cells(x.flip(3))) / 2
    (expected,) = solve_path(z, task.train.labels, task.num_classes, (0.1,), None)
    torch.testing.assert_close(made.classifier.head.weight, expected.weight, rtol=1e-3, atol=1e-4)
    again = rt.load_source(tmp_path / "probe")
    assert torch.equal(logits(again), logits(made))
    assert again.card.settings["grid"] == 2
    assert again.card.source == source.provenance, "the weights' origin is the source as it was"


@pytest.mark.parametrize("name", STRATEGIES.names())
def test_every_strategy_works_on_a_reading(name: str) -> None:
    kind = STRATEGIES.get(name)
    strategy = kind.from_settings({**kind.quick, "grid": 2, "mirror": True})
    made = strategy(make_source(threat=Threat.parse("linf:0.1")), make_digits(train=40, val=20, test=10))
    assert torch.isfinite(logits(made)).all()


def test_a_mirrored_network_costs_twice_as_much() -> None:
    source, task = make_source(), make_digits(train=40, val=20, test=10)
    once, twice = (rt.LwF(epochs=1, l2=0.1, head="new", mirror=mirror) for mirror in (False, True))
    assert twice.forecast(task) == 2 * once.forecast(task)
    assert twice(source, task).card.cost.passes == 2 * once(source, task).card.cost.passes
