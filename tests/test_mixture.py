"""Mixtures of two classifiers: one form with all others, saved, loaded, folded, frozen, exported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_classifier, make_source, make_task, same_state
from torch import nn

from robust_transfer.checkpoint import Card, Checkpoint, load_checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.engine import Engine
from robust_transfer.errors import CheckpointError, ConfigError
from robust_transfer.exporting import export
from robust_transfer.mixed_head import Mixing
from robust_transfer.mixture import BothLogits, mixed_anew, mixed_head, mixture
from robust_transfer.prediction import predict
from robust_transfer.preprocessing import Preprocessing
from robust_transfer.strategies import FineTune, LinearProbe, transfer
from robust_transfer.strategies.kept_head import kept_head

X = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
HOW = Mixing(share=0.7, scale=2.0, power=2.0, shift=-0.5)
NAMES = tuple(str(i) for i in range(10))


def part(seed: int) -> Classifier:
    return make_classifier(seed).with_head(10, seed=seed).eval()


def made(how: Mixing = HOW) -> Classifier:
    return mixture(part(1), part(2), how)


@pytest.fixture
def checkpoint() -> Checkpoint:
    classifier = made()
    return Checkpoint(classifier, Card(network=classifier.spec, class_names=NAMES, method="made", threat="linf:8/255"))  # type: ignore[arg-type]


def test_it_holds_what_both_say() -> None:
    robust, natural = part(1), part(2)
    mix = mixture(robust, natural, HOW)
    both = BothLogits(mix)(X)
    torch.testing.assert_close(both, torch.cat([robust(X), natural(X)], 1))
    head = mixed_head(mix)
    assert head is not None
    torch.testing.assert_close(mix(X), head.mix(robust(X), natural(X)))
    assert (mix.num_features, mix.num_classes) == (128, 10)
    assert mixed_head(robust) is None
    assert not same_state(mixed_anew(mix, dataclasses.replace(HOW, share=0.8)), mix)  # the share is part of the weights
    mix.get_parameter("head.first.weight").data.zero_()
    torch.testing.assert_close(robust(X), both[:, :10])  # copies


def test_saved_and_loaded_it_is_the_same(checkpoint: Checkpoint, tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path / "run")
    assert torch.equal(load_checkpoint(tmp_path / "run").classifier(X), checkpoint.classifier(X))
    assert saved.card.network == checkpoint.card.network
    half = checkpoint.save(tmp_path / "half", dtype=torch.float16)
    torch.testing.assert_close(half.classifier(X), checkpoint.classifier(X), rtol=0, atol=0.02)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    card["network"]["head"]["parts"] = [64, 32]
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    with pytest.raises((CheckpointError, ConfigError), match="96 features"):
        load_checkpoint(tmp_path / "run")


def test_cards_of_before_there_were_mixtures_load(tmp_path: Path) -> None:
    source = make_source()
    source.save(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    del card["network"]["head"]["parts"]
    (tmp_path / "run" / "card.json").write_text(json.dumps(card))
    assert load_checkpoint(tmp_path / "run").card.network == source.card.network


def test_a_part_that_nobody_could_build_again_is_not_saved(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 10))
    foreign = Classifier.from_module(plain, Preprocessing(size=8))
    mix = mixture(make_classifier(1).eval(), foreign, HOW)
    checkpoint = Checkpoint(mix, Card(network=mix.spec, class_names=NAMES, method="made"))
    with pytest.raises(CheckpointError, match="'Sequential \\(unregistered\\)' cannot be saved"):
        checkpoint.save(tmp_path / "run")


def test_blocks_copies_and_freezing() -> None:
    mix = made()
    blocks, state = mix.blocks(), list(mix.state_dict())
    assert sorted(name for block in blocks for name in block) == sorted(state)
    assert len(blocks) == len(make_classifier().blocks())
    assert set(blocks[0]) == {"body.first.conv1.weight", "body.second.conv1.weight"}
    assert same_state(mix.copy(), mix)
    mix.freeze()
    assert {name for name, p in mix.named_parameters() if p.requires_grad} == {
        f"head.{place}.{what}" for place in ("first", "second") for what in ("weight", "bias")
    }


def test_the_engine_folds_both() -> None:
    mix = made()
    fast = Engine().of(mix)
    torch.testing.assert_close(fast(X), mix(X), rtol=1e-4, atol=1e-4)
    assert sum(isinstance(one, nn.BatchNorm2d) for one in fast.modules()) < sum(
        isinstance(one, nn.BatchNorm2d) for one in mix.modules()
    )
    with torch.no_grad():
        low, exact = Engine(torch.bfloat16).of(mix)(X), mix(X)
    assert low.dtype is torch.float32
    assert float((low.exp() - exact.exp()).abs().max()) < 0.1


def test_it_is_a_source_with_both_features(checkpoint: Checkpoint) -> None:
    task = make_task()
    probe = transfer(checkpoint, task, LinearProbe(l2=0.1), run=QUIET)
    assert probe.classifier.num_features == 128
    tuned = transfer(checkpoint, task, FineTune(epochs=1, head="keep"), run=QUIET)
    assert mixed_head(tuned.classifier) is not None
    assert not torch.equal(
        tuned.classifier.get_parameter("head.second.weight"), checkpoint.classifier.get_parameter("head.second.weight")
    )
    task = dataclasses.replace(
        task, train=dataclasses.replace(task.train, class_names=NAMES[::-1]),
        val=dataclasses.replace(task.val, class_names=NAMES[::-1]),
        test=dataclasses.replace(task.test, class_names=NAMES[::-1]),
    )  # fmt: skip
    torch.testing.assert_close(kept_head(checkpoint, task)(X), checkpoint.classifier(X).flip(1))


def test_it_is_predicted_with_and_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    images = (X * 255).byte().permute(0, 2, 3, 1).numpy()
    found = list(predict(checkpoint, list(images), run=QUIET))
    assert len(found) == 6
    export(checkpoint, "onnx", tmp_path / "onnx")  # which compares it with PyTorch before it writes
    with pytest.raises(ConfigError, match="timm itself does not have the network 'pair'"):
        export(checkpoint, "timm", tmp_path / "timm")


def test_what_does_not_mix_is_refused() -> None:
    one = make_classifier(1)
    with pytest.raises(ConfigError, match="same images"):
        mixture(one, make_classifier(size=16), HOW)
    with pytest.raises(ConfigError, match="as many classes"):
        mixture(one, one.with_head(3), HOW)
    with pytest.raises(ConfigError, match="linear heads"):
        mixture(made(), one, HOW)
