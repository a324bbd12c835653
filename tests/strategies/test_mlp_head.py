"""Heads with hidden layers: what they compute, how they are saved, and that nothing below them moves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import QUIET, make_source, same_state
from torch import nn

from robust_transfer.checkpoint import load_checkpoint
from robust_transfer.classifier import Classifier, NetworkSpec
from robust_transfer.config import as_dict, build
from robust_transfer.data import Task, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.heads import MLP, HeadSpec
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.strategies import FineTune, LinearProbe, MLPHead, features_of, transfer
from robust_transfer.training import state

SPEC = NetworkSpec(
    name="wrn_16_1",
    num_classes=4,
    preprocessing=Preprocessing(size=8),
    head=HeadSpec(hidden=(6, 5), batch_norm=True, dropout=0.5),
)


def test_a_head_is_its_layers_in_order() -> None:
    classifier = Classifier.build(SPEC).eval()
    kinds = [type(layer).__name__ for layer in classifier.head.layers]  # type: ignore[union-attr]
    unit = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds == [*unit, *unit, "Linear"]
    plain = Classifier.build(dataclasses.replace(SPEC, head=HeadSpec(hidden=(7,)))).eval()
    assert isinstance(plain.head, MLP)
    first, last = plain.head.layers[0], plain.head.layers[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    plain.head.mean.fill_(0.5)
    plain.head.std.fill_(2.0)
    z = torch.randn(3, plain.num_features)
    wanted = F.linear(F.relu(F.linear((z - 0.5) / 2, first.weight, first.bias)), last.weight, last.bias)
    torch.testing.assert_close(plain.classify(z), wanted)
    assert (plain.num_classes, plain.num_features) == (4, z.shape[1])


def test_the_description_of_a_network_without_a_head_is_still_read() -> None:
    text = as_dict(SPEC)
    assert build(NetworkSpec, json.loads(json.dumps(text)), "network") == SPEC
    del text["head"]
    assert build(NetworkSpec, text, "network").head == HeadSpec()


def test_heads_that_make_no_sense() -> None:
    heads: tuple[dict[str, Any], ...] = ({"hidden": (0,)}, {"hidden": (3,), "dropout": 1.0})
    for settings in heads:
        with pytest.raises(ConfigError):
            HeadSpec(**settings)
    strategies: tuple[dict[str, Any], ...] = ({"depth": 0}, {"width": 0}, {"augment": True}, {"dropout": -0.1})
    for settings in strategies:
        with pytest.raises(ConfigError):
            MLPHead(**settings)


def test_features_are_those_of_the_source_and_the_head_is_saved(task: Task, tmp_path: Path) -> None:
    source, run = make_source(threat="linf:8/255"), dataclasses.replace(QUIET, out=tmp_path / "run")
    strategy = MLPHead(depth=2, width=16, layer_batch_norm=True, dropout=0.2, epochs=2)
    result = transfer(source, task, strategy, run=run)
    assert torch.equal(features_of(result.classifier, task.val, QUIET), features_of(source.classifier, task.val, QUIET))
    loaded = load_checkpoint(tmp_path / "run")
    assert same_state(loaded.classifier, result.classifier)
    assert loaded.card.network.head == HeadSpec(hidden=(16, 16), batch_norm=True, dropout=0.2)
    x = to_pixels(task.val.images())
    assert torch.equal(loaded.classifier(x), result.classifier.eval()(x))
    assert result.card.cost.passes == len(task.train) + len(task.val), "the network is run once over the images"


def test_it_fits_the_training_set_better_than_a_linear_head(task: Task) -> None:
    source = make_source()

    def fitted(strategy: MLPHead | LinearProbe) -> float:
        model = transfer(source, task, strategy, run=QUIET).classifier
        with torch.no_grad():
            return float(F.cross_entropy(model(to_pixels(task.train.images())), task.train.labels))

    assert fitted(MLPHead(width=64, epochs=100, batch_size=32, learning_rate=0.1, weight_decay=0.0)) < fitted(
        LinearProbe(l2=1e-3)
    )


def test_what_comes_after_it_can_start_from_it_or_from_a_new_head(task: Task) -> None:
    deep = transfer(make_source(threat="linf:8/255"), task, MLPHead(width=8, epochs=1), run=QUIET)
    kept = transfer(deep, task, FineTune(epochs=1), run=QUIET)
    assert kept.card.network.head == HeadSpec(hidden=(8,))
    new = transfer(deep, task, LinearProbe(l2=0.1), run=QUIET)
    assert new.card.network.head == HeadSpec()


def test_the_network_sees_every_image_once_however_many_epochs(task: Task) -> None:
    source = make_source()
    heads = [MLPHead(depth=1, width=8, epochs=epochs)(source, task, run=QUIET) for epochs in (1, 5)]
    assert [head.card.cost.passes for head in heads] == [len(task.train) + len(task.val)] * 2
    with torch.no_grad():
        x = to_pixels(task.val.images(), heads[1].classifier.device)
        right = heads[1].classifier.eval()(x).argmax(1) == task.val.labels
    assert heads[1].card.metrics["val_clean_accuracy"] == pytest.approx(float(right.float().mean()))


def test_its_first_layer_is_not_the_head_that_the_source_began_with(task: Task) -> None:
    source = make_source(threat="linf:8/255")
    began = source.classifier.get_parameter("head.weight")  # never trained
    made = MLPHead(depth=1, width=len(began)).start(source, task, QUIET).classifier
    both = torch.stack([began.flatten(), made.get_parameter("head.layers.0.weight").flatten()]).detach()
    assert abs(float(torch.corrcoef(both)[0, 1])) < 4 * both.shape[1] ** -0.5


def test_a_run_that_goes_on_counts_the_features_once(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, strategy = make_source(threat="linf:8/255"), MLPHead(**{**MLPHead.quick, "epochs": 3})
    run, real, saved = dataclasses.replace(QUIET, out=tmp_path / "run"), state.save, list[int]()

    def killed(*given: Any) -> None:
        real(*given)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer(source, task, strategy, run=run)
    resumed = transfer(source, task, strategy, run=dataclasses.replace(run, resume=True))
    assert resumed.card.cost.passes == len(task.train) + len(task.val)
    assert resumed.hash == transfer(source, task, strategy, run=QUIET).hash
