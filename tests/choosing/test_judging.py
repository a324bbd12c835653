"""A contender's judgement: the same images for all, what it cost, what it will take."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import QUIET, make_source, make_task

from robust_transfer.attacks import parse_attack
from robust_transfer.choosing.clock import Clock
from robust_transfer.choosing.contenders import Contender, closer_look
from robust_transfer.choosing.judging import FINAL, Judge
from robust_transfer.evaluation import evaluate, load_evaluation
from robust_transfer.evaluation.effort import effort
from robust_transfer.strategies import LinearProbe
from robust_transfer.threat import Threat

THREAT = Threat.parse("linf:2/255")


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    return Judge(make_task(), THREAT, 24, tmp_path, QUIET, Clock(1000.0))


def test_the_figures_are_those_of_an_evaluation_on_val(judge: Judge, tmp_path: Path) -> None:
    source, one = make_source(threat="linf:8/255"), Contender("s", "probe", LinearProbe(l2=0.1))
    found = judge(one, source)
    again = evaluate(
        LinearProbe(l2=0.1)(source, judge.task, run=QUIET), judge.task.val, threat=THREAT, attack="quick", examples=24,
        red_flag_examples=0, transfer_attack_examples=0, run=QUIET,
    )  # fmt: skip
    assert (found.clean, found.robust) == (again.clean_accuracy, again.robust_accuracy)
    kept = load_evaluation(tmp_path / found.folder)
    assert kept.data_hash == again.data_hash
    assert judge.cost.passes == len(judge.task.train) + len(judge.task.val) + again.passes
    assert judge.cost.adversarial_examples == round(24 * again.clean_accuracy.value) > 0


def test_finals_are_stronger_and_on_the_same_images(judge: Judge, tmp_path: Path) -> None:
    found = judge(Contender("s", "probe", LinearProbe(l2=0.1)), make_source(threat="linf:8/255"))
    final = judge.final(found, 24)
    assert final.final_clean == found.clean
    assert final.final_robust is not None
    assert final.final_robust.value <= found.robust.value
    first, last = (load_evaluation(tmp_path / found.folder / part) for part in ("", FINAL))
    assert first.data_hash == last.data_hash
    assert final.seconds > found.seconds
    assert judge.made(final).card.settings["l2"] == 0.1


def test_what_stands_takes_the_whole_suite(judge: Judge) -> None:
    found = judge(Contender("s", "probe", LinearProbe(l2=0.1)), make_source(threat="linf:8/255"))
    share = found.robust.value
    assert judge.final_passes(found) == pytest.approx(share * effort(parse_attack("strong")) + (1 - share) * 60)


def test_a_shared_look_counts_its_passes_once(judge: Judge) -> None:
    source = make_source(threat="linf:8/255")
    probe = next(one for one in closer_look("s") if one.shares)
    before = judge.cost.passes
    found = judge(probe, source)
    attack = load_evaluation(judge.folder / found.folder).passes
    assert judge.cost.passes - before == attack
