"""Probe and fine-tuning in detail: what they choose, count, hold and refuse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import QUIET, everything, folder_of, make_source, relabelled, without_val
from safetensors.torch import load_file

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, Task, to_pixels
from robust_transfer.errors import CheckpointError, ConfigError, DivergedError
from robust_transfer.strategies import FineTune, LinearProbe, LwF, Strategy, features_of, softmax, transfer
from robust_transfer.strategies.softmax import Standardisation
from robust_transfer.training import Batch, HeadPenalty, NaturalObjective, Objective, TrainingSettings, fit

# -------------------------------------------------------------------- the probe


def test_points_that_did_not_converge_are_on_the_card(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = transfer(source, task, LinearProbe(path=(0.1, 1e-4)), run=QUIET).card
    assert good.events == ()
    assert all(r["converged"] for r in good.metrics["path"])
    monkeypatch.setattr(softmax, "MAX_NEWTON_STEPS", 1)
    for strategy, path in ((LinearProbe(), "path"), (FineTune(head="new", epochs=0.01), "l2_path")):
        card = transfer(source, task, strategy, run=QUIET).card
        left = [f"l2 = {r['l2']:g}: not converged after 1 iterations" for r in card.metrics[path] if not r["converged"]]
        assert left
        assert [event.partition(" (")[0] for event in card.events] == left


def test_of_equal_penalties_the_strongest_is_chosen(source: Checkpoint, task: Task) -> None:
    """Ties are common in accuracy: the order of the path must not decide them."""
    path = (1e-9, 1e-8, 1e-7)
    few = dataclasses.replace(task, val=task.val.subset(torch.arange(4)))
    metrics = transfer(source, few, LinearProbe(path=path, choose="clean"), run=QUIET).card.metrics
    assert len({r["val_accuracy"] for r in metrics["path"]}) == 1  # a tie
    assert metrics["l2"] == 1e-7


def test_close_penalties_do_not_overwrite_each_other(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    transfer(source, task, LinearProbe(path=(0.1234567, 0.1234568)), run=run)
    assert len(load_file(folder_of(run) / "path.safetensors")) == 4


def test_a_probe_without_val_uses_what_it_says(source: Checkpoint, task: Task) -> None:
    card = transfer(source, without_val(task), LinearProbe(path=(1.0, 0.1), without_val=0.3), run=QUIET).card
    assert card.metrics["l2"] == 0.3
    assert "0.3" in card.criterion
    assert [r["l2"] for r in card.metrics["path"]] == [1.0, 0.1, 0.3]


def test_a_constant_head_is_no_result(source: Checkpoint, task: Task) -> None:
    rare = relabelled(task, (task.train.labels == 3).long(), ("rest", "three"))
    with pytest.raises(DivergedError, match="smaller l2"):
        transfer(source, rare, LinearProbe(l2=1e4), run=QUIET)


def test_damaged_sources_are_refused(task: Task) -> None:
    damaged = make_source()
    with torch.no_grad():
        next(damaged.classifier.body.parameters())[0] = torch.nan
    with pytest.raises(CheckpointError, match="not finite"):
        transfer(damaged, task, LinearProbe(), run=QUIET)


# -------------------------------------------------------------------- what is counted


def test_costs_are_counted_once(source: Checkpoint, task: Task) -> None:
    n, val, epochs = len(task.train), len(task.val), 2
    settings: dict[str, Any] = {"head": "new", "epochs": epochs, "l2": 0.1}
    looked = epochs * val  # a clean pass over val after each epoch
    cost = {
        "probe": transfer(source, task, LinearProbe(l2=0.1), run=QUIET).card.cost.passes,
        "tuned": transfer(source, task, FineTune(**settings), run=QUIET).card.cost.passes,
        "cached": transfer(source, task, LwF(**settings), run=QUIET).card.cost.passes,
        "live": transfer(source, task, LwF(**settings, teacher="live"), run=QUIET).card.cost.passes,
        "cold": transfer(source, task, LwF(**settings, warm_start=False), run=QUIET).card.cost.passes,
        "raw": transfer(
            source, task, LwF(**settings, warm_start=False, teacher="live", feature_weight=0.1), run=QUIET
        ).card.cost.passes,
    }
    assert cost == {
        "probe": n + val,
        "tuned": n + val + 3 * epochs * n + looked,
        "cached": n + val + 3 * epochs * n + looked,
        "live": n + val + 4 * epochs * n + looked,
        "cold": n + 3 * epochs * n + looked,
        "raw": 4 * epochs * n + looked,
    }


def test_features_are_computed_once(source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []

    def counted(*args: Any) -> Any:
        passes.append(len(args[1]))
        return features_of(*args)

    for module in ("linear_probe", "lwf"):
        monkeypatch.setattr(f"robust_transfer.strategies.{module}.features_of", counted)
    transfer(source, task, LwF(head="new", epochs=0.01), run=QUIET)
    assert passes == [len(task.train), len(task.val)]


def test_adversarial_examples_are_made_only_when_asked_for(source: Checkpoint, task: Task) -> None:
    few = dataclasses.replace(task, val=task.val.subset(torch.arange(10)))
    for strategy, expected in ((LwF(head="new", epochs=1), False), (LwF(head="new", epochs=1, select="robust"), True)):
        card = transfer(source, few, strategy, run=QUIET).card
        assert (card.cost.adversarial_examples > 0) is expected
        assert ("val_robust_accuracy" in card.metrics) is expected
        assert ("epoch 1" in card.criterion) is expected


# -------------------------------------------------------------------- the held head


def test_a_held_head_stays_at_the_probes_optimum(
    source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where weight decay, here as strong as the penalty, comes on top of it, the head shrinks."""
    probe = LinearProbe(l2=0.5).solve(source, task, QUIET)
    optimum = probe.chosen.weight
    settings = TrainingSettings(
        epochs=40, batch_size=128, learning_rate=0.05, momentum=0.9, weight_decay=0.5, augment=False
    )
    drift = []
    for _ in range(2):
        model = source.classifier.with_layers(probe.chosen.head()).freeze()
        held = NaturalObjective(model, 10**6)
        held.head_penalty = probe.penalty(probe.chosen)
        found = fit(held, task.train, settings, QUIET).classifier.get_parameter("head.weight")
        drift.append(float(((found - optimum).norm() / optimum.norm()).detach()))
        monkeypatch.setattr(Objective, "undecayed", lambda self: [])
    assert drift[0] < 1e-3 < 1e-2 < drift[1]


def test_the_loss_that_is_shown_is_what_is_minimised(source: Checkpoint, task: Task) -> None:
    """Cross-entropy and penalty."""
    plain = NaturalObjective(source.classifier.copy(), 10**6)(everything(task))
    held = NaturalObjective(source.classifier.copy(), 10**6)
    held.head_penalty = HeadPenalty(0.5, torch.ones(source.classifier.num_features))
    out = held(everything(task))
    expected = plain["loss"] + 0.25 * source.classifier.get_parameter("head.weight").square().sum()
    torch.testing.assert_close(out["loss"].detach(), expected.detach())


def test_holding_is_of_the_probes_penalty(source: Checkpoint, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(objective: Any, *args: Any, **more: Any) -> Any:
        seen.append(objective)
        return fit(objective, *args, **more)

    monkeypatch.setattr("robust_transfer.strategies.trained.fit", watched)
    for hold in (True, False):
        transfer(source, task, FineTune(head="new", epochs=0.01, l2=0.3, hold_l2=hold), run=QUIET)
    held, free = seen
    assert held.head_penalty.l2 == 0.3
    z = features_of(source.classifier, task.train, QUIET)
    torch.testing.assert_close(held.head_penalty.deviations.double(), Standardisation.of(z).std)
    assert free.head_penalty is None
    assert sum("head.weight" in key for key in held.state_dict()) == 1  # the classifier is not saved twice


def test_every_objective_takes_the_penalty_of_the_head(source: Checkpoint, task: Task) -> None:
    """Whatever it minimises, and whichever strategy hands it over."""

    class Other(Objective):
        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            logits = self.classifier(batch.images)
            return {"loss": logits.square().mean(), "logits": logits}

    objective = Other(source.classifier.copy())
    plain = objective(everything(task))["loss"]
    assert objective.undecayed() == []
    deviations = torch.arange(1.0, source.classifier.num_features + 1)
    objective.head_penalty = HeadPenalty(0.1, deviations)
    out = objective(everything(task))
    weights = source.classifier.get_parameter("head.weight")
    by_hand = sum(0.05 * (w * d).square().sum() for w, d in zip(weights.T, deviations, strict=True))
    torch.testing.assert_close(out["head_penalty"], by_hand)
    torch.testing.assert_close(out["loss"], plain + by_hand)
    assert {id(p) for p in objective.undecayed()} == {id(p) for p in objective.classifier.head.parameters()}


def test_patience_grows_with_imbalance_and_small_batches(task: Task) -> None:
    labels = task.train.labels
    rare = relabelled(task, (labels == 3).long(), ("rest", "three"))
    balanced, small = FineTune().patience(task), FineTune(batch_size=8).patience(task)
    assert 4 <= balanced <= 6
    assert 60 <= small <= 80
    share = float((labels == 3).double().mean())
    assert FineTune().patience(rare) == pytest.approx(500 / share / 128, abs=1)


def test_small_batches_of_two_classes_are_no_collapse(source: Checkpoint, task: Task) -> None:
    """Eight images of two classes are predicted as one class now and then, by a network that is fine."""
    even = relabelled(task, (task.train.labels > 4).long(), ("small", "large"))
    card = transfer(source, even, FineTune(epochs=3, batch_size=8, learning_rate=1e-4), run=QUIET).card
    assert card.events == ()


# -------------------------------------------------------------------- little data


@pytest.mark.parametrize("strategy", [LinearProbe(), FineTune(epochs=2), LwF(epochs=2)], ids=lambda s: type(s).__name__)
def test_two_images_a_class(strategy: Strategy, source: Checkpoint, task: Task) -> None:
    """Twenty images, fewer than a batch, and no val."""
    pairs = torch.cat([(task.train.labels == c).nonzero()[:2, 0] for c in range(10)])
    tiny = relabelled(task, task.train.labels, tuple("abcdefghij"), pairs)
    result = transfer(source, tiny, strategy, run=QUIET)
    assert result.classifier.num_classes == 10
    with torch.no_grad():
        right = result.classifier(to_pixels(tiny.train.images())).argmax(1) == tiny.train.labels
    assert right.double().mean() > 0.5


def test_features_after_a_probe_are_those_of_the_source(source: Checkpoint, task: Task) -> None:
    result = transfer(source, task, LinearProbe(), run=QUIET)
    result.classifier.train()
    x = to_pixels(task.val.images())
    for _ in range(2):  # a second pass would show moved batch-norm statistics
        assert torch.equal(result.classifier.features(x), source.classifier.features(x))


def test_the_whole_path_is_kept_and_the_choice_is_by_val(source: Checkpoint, task: Task, tmp_path: Path) -> None:
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    result = transfer(source, task, LinearProbe(path=(1.0, 0.01, 1e-4)), run=run)
    records = result.card.metrics["path"]
    assert [r["l2"] for r in records] == [1.0, 0.01, 1e-4]
    assert result.card.metrics["l2"] == min(records, key=lambda r: r["val_loss"])["l2"]
    tensors = load_file(folder_of(run) / "path.safetensors")
    assert set(tensors) == {f"{l2}/{part}" for l2 in ("1", "0.01", "0.0001") for part in ("weight", "bias")}
    chosen = f"{result.card.metrics['l2']:g}/weight"
    assert torch.equal(tensors[chosen], result.classifier.get_parameter("head.weight"))
    norms = [float(tensors[f"{l2}/weight"].norm()) for l2 in ("1", "0.01", "0.0001")]
    assert norms == sorted(norms)  # a weaker penalty, a larger head


def test_choosing_by_attack_is_counted(source: Checkpoint, task: Task) -> None:
    result = transfer(source, task, LinearProbe(path=(1.0, 0.01), choose="robust"), run=QUIET)
    right = sum(round(r["val_accuracy"] * len(task.val)) for r in result.card.metrics["path"])
    assert result.card.cost.adversarial_examples == right > 0
    best = max(result.card.metrics["path"], key=lambda r: r["val_robust_accuracy"])
    assert result.card.metrics["l2"] == best["l2"]
    natural = dataclasses.replace(source, card=dataclasses.replace(source.card, threat=None))
    with pytest.raises(ConfigError, match="threat"):
        transfer(natural, task, LinearProbe(choose="robust"), run=QUIET)


def test_the_head_rule(source: Checkpoint, task: Task) -> None:
    kept = transfer(source, task, FineTune(epochs=0.01, learning_rate=1e-9), run=QUIET)  # same class names: kept
    assert torch.allclose(
        kept.classifier.get_parameter("head.weight"), source.classifier.get_parameter("head.weight"), atol=1e-6
    )
    renamed = dataclasses.replace(task.train, class_names=tuple("abcdefghij"))
    none = renamed.subset(torch.arange(0))
    other = dataclasses.replace(task, train=renamed, val=none, test=none)
    new = transfer(source, other, FineTune(epochs=0.01, learning_rate=1e-9), run=QUIET)
    assert not torch.allclose(
        new.classifier.get_parameter("head.weight"), source.classifier.get_parameter("head.weight"), atol=1e-2
    )
    five = Split.in_memory(task.train.images(), task.train.labels % 5, tuple("abcde"))
    with pytest.raises(ConfigError, match="head=new"):
        transfer(source, dataclasses.replace(other, train=five, val=five, test=five), FineTune(head="keep"), run=QUIET)


def test_batch_norm_is_held_or_adapts(source: Checkpoint, task: Task) -> None:
    held = transfer(source, task, FineTune(epochs=1, head="new"), run=QUIET).classifier.state_dict()
    moved = transfer(
        source, task, FineTune(epochs=1, head="new", batch_norm="train"), run=QUIET
    ).classifier.state_dict()
    for key, value in source.classifier.state_dict().items():
        if "running_" in key:
            assert torch.equal(held[key], value)
            assert not torch.equal(moved[key], value)


def test_a_held_penalty_makes_the_probe_stationary(source: Checkpoint, task: Task) -> None:
    """At the probe's solution, cross-entropy alone still pulls on the head; with the probe's penalty nothing does."""
    probe = LinearProbe(l2=0.1).solve(source, task, QUIET)
    natural, held = (NaturalObjective(source.classifier.with_layers(probe.chosen.head()).eval()) for _ in range(2))
    held.head_penalty = probe.penalty(probe.chosen)
    everything = torch.arange(len(task.train))
    batch = Batch(to_pixels(task.train.images()), task.train.labels, task.train.ids, everything, 0)
    pulls = []
    for objective in (natural, held):
        objective.zero_grad()
        objective(batch)["loss"].backward()
        pull = objective.classifier.get_parameter("head.weight").grad
        assert pull is not None
        pulls.append(float(pull.abs().max()))
    assert pulls[1] < 1e-4 < 1e-3 < pulls[0]


def test_features_of_are_in_order_and_independent_of_batches(source: Checkpoint, task: Task) -> None:
    found = features_of(source.classifier, task.val, QUIET)
    with torch.no_grad():
        one = torch.cat([source.classifier.features(to_pixels(task.val.fetch(torch.tensor([i])))) for i in range(10)])
    assert torch.allclose(found[:10], one, atol=1e-5)
    standard = Standardisation.of(found)(found)
    assert torch.allclose(standard.mean(0), torch.zeros(found.shape[1]).double(), atol=1e-9)
