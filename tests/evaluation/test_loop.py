"""Loop over attacks and batches: division of work, stored state, time limit, resumption."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from attack_helpers import LINF, Batch
from helpers import QUIET
from torch import Tensor, nn

from robust_transfer.attacks import FGSM, PGD, Attack, AttackResult
from robust_transfer.data import Split, to_pixels
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.evaluation.adversary import Adversary
from robust_transfer.evaluation.deadline import Deadline
from robust_transfer.evaluation.loop import attack_split
from robust_transfer.evaluation.outcomes import CLEAN, SURVIVED, UNTESTED
from robust_transfer.run import Run

ATTACKS: list[Attack] = [FGSM(), PGD(steps=5), PGD(steps=10, loss="margin")]
RUN = dataclasses.replace(QUIET, seed=2)


@pytest.fixture(scope="module")
def split(batch: Batch) -> Split:
    x, labels, ids = batch
    return Split.in_memory((x * 255).round().byte(), labels, tuple(str(i) for i in range(10)), ids=ids)


@pytest.fixture(scope="module")
def alone(network: nn.Module, split: Split) -> list[AttackResult]:
    """What each attack does by itself."""
    x = to_pixels(split.images())
    return [attack(network, x, split.labels, split.ids, LINF, seed=2) for attack in ATTACKS]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Which attack is given which examples, a line a batch."""
    seen, real = [], Attack.__call__

    def block(attack: Attack, model: nn.Module, x: Tensor, labels: Tensor, ids: Tensor, *rest: Any, **more: Any) -> Any:
        seen.append((str(attack), ids.tolist()))
        return real(attack, model, x, labels, ids, *rest, **more)

    monkeypatch.setattr(Attack, "__call__", block)
    return seen


@pytest.mark.parametrize("size", [37, 256])
def test_each_attack_is_given_what_the_earlier_ones_left_in_full_batches(
    size: int, network: nn.Module, split: Split, alone: list[AttackResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    attack_split(Adversary(ATTACKS, LINF, seed=2, batch_size=size), network, split, RUN)
    left = [split.ids, split.ids[~alone[0].broken], split.ids[~alone[0].broken & ~alone[1].broken]]
    for attack, ids in zip(ATTACKS, left, strict=True):
        batches = [given for name, given in seen if name == str(attack)]
        assert [number for given in batches for number in given] == ids.tolist()
        assert all(len(given) == size for given in batches[:-1])


def test_the_outcomes_are_the_worst_of_each_attack(network: nn.Module, split: Split, alone: list[AttackResult]) -> None:
    found = attack_split(Adversary(ATTACKS, LINF, seed=2, batch_size=50), network, split, RUN)
    names = np.full(len(split), SURVIVED, object)
    for attack, result in reversed(list(zip(ATTACKS, alone, strict=True))):
        names[result.broken.numpy()] = str(attack)
    names[(alone[0].clean_prediction != split.labels).numpy()] = CLEAN
    assert set(names) == {SURVIVED, CLEAN, *map(str, ATTACKS)}
    assert found.table["broken_by"].tolist() == names.tolist()
    assert found.table["index"].tolist() == split.ids.tolist()
    assert found.table["clean_prediction"].tolist() == alone[0].clean_prediction.tolist()
    stands = names == SURVIVED
    largest = torch.stack([result.margin for result in alone]).amax(0).numpy()
    assert (found.table["margin"][stands] == largest[stands]).all()
    assert (found.table["adversarial_prediction"][stands] == found.table["label"][stands]).all()
    for attack, result in zip(ATTACKS, alone, strict=True):
        mine = names == str(attack)
        assert (found.table["margin"][mine] == result.margin.numpy()[mine]).all()
        assert (found.table["adversarial_prediction"][mine] == result.prediction.numpy()[mine]).all()
    assert alone[0].passes < found.passes < sum(result.passes for result in alone)


class Clock:
    """A clock that an image in a batch moves on by a hundredth of a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, real = 0.0, Attack.__call__

        def block(*args: Any, **more: Any) -> Any:
            self.now += 0.01 * len(args[2])
            return real(*args, **more)

        monkeypatch.setattr(Attack, "__call__", block)
        monkeypatch.setattr("time.perf_counter", lambda: self.now)


def test_a_budget_stops_in_time_on_a_fair_sample(
    network: nn.Module, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch)
    found = attack_split(Adversary(ATTACKS, LINF, seed=2, batch_size=40), network, split, RUN, deadline=Deadline(1.2))
    assert 110 < len(found.reached) <= 120  # an image takes a hundredth of a second
    assert len(found.table) == len(found.reached)
    assert not (np.diff(np.flatnonzero(found.rows["broken_by"] != UNTESTED)) == 1).all()  # drawn at random
    left = found.unreached(ATTACKS)
    reached = len(found.reached)
    assert left[str(ATTACKS[0])] == len(split) - reached
    assert left[str(ATTACKS[1])] == len(split) - reached + int((found.rows["broken_by"] == SURVIVED).sum())
    assert found.used == 1


def test_the_blocks_of_a_slow_attack_end_in_time() -> None:
    deadline = Deadline(10.0)
    assert deadline.fits(500) == 16
    assert deadline.fits(500, 16, 0.001) == 64
    assert 30 <= deadline.fits(500, 16, 0.3) <= 33
    assert deadline.fits(500, 16, 20.0) == 0
    assert Deadline(None).fits(500, 16, 20.0) == 500
    assert Deadline(0.0).fits(500) == 0


def test_the_estimate_tightens_and_ends_at_the_whole(
    network: nn.Module, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = "fgsm+pgd-5+pgd-10:loss=margin"
    whole = evaluate(network, split, threat=LINF, attack=attack, run=RUN, red_flag_examples=0)
    Clock(monkeypatch)
    run = Run(out=tmp_path / "run", seed=2, quiet=True, resume=True)
    sizes, found, first = list[int](), whole, list[Evaluation]()
    for _ in range(16):
        found = evaluate(
            network, split, threat=LINF, attack=attack, run=run, red_flag_examples=0, batch_size=60, time_limit=0.6
        )
        sizes.append(found.robust_accuracy.n)
        assert load_evaluation(tmp_path / "run").to_dict() == found.to_dict()
        first.append(found)
        if not found.untested:
            break
        assert "for want of time" in str(found)
    assert 55 < sizes[0] <= 60
    assert sizes == sorted(sizes)
    assert len(sizes) > 5
    assert list(first[0].by_attack) == ["fgsm"]
    assert found.untested == []
    pd.testing.assert_frame_equal(found.outcomes, whole.outcomes)
    assert found.passes == whole.passes
    assert found.data_hash == whole.data_hash
    assert not (tmp_path / "run" / "state").exists()
    again = evaluate(network, split, threat=LINF, attack=attack, run=run, red_flag_examples=0, time_limit=0.5)
    assert again.to_dict() == found.to_dict()


def test_without_a_budget_an_evaluation_that_was_stopped_is_finished(
    network: nn.Module, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(out=tmp_path / "run", seed=2, quiet=True)
    with monkeypatch.context() as patch:
        Clock(patch)
        stopped = evaluate(
            network, split, threat=LINF, attack="fgsm", run=run, red_flag_examples=0, batch_size=60, time_limit=1.2
        )
    assert stopped.robust_accuracy.n == 120
    run = dataclasses.replace(run, resume=True)
    assert evaluate(network, split, threat=LINF, attack="fgsm", run=run, red_flag_examples=0).robust_accuracy.n == len(
        split
    )


def test_a_budget_is_a_positive_time(network: nn.Module, split: Split) -> None:
    with pytest.raises(ConfigError, match="positive number of seconds"):
        evaluate(network, split, time_limit=0, run=QUIET)
