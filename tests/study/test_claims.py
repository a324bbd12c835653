"""Claims: judged by intervals on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_helpers import RUN

from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import load_evaluation
from robust_transfer.statistics.frontier_gain import above_front, place
from robust_transfer.statistics.intervals import Difference
from robust_transfer.statistics.resampling import Correctness
from robust_transfer.study.claims import _verdict, diverged, judge
from robust_transfer.study.recipe import Claim, Recipe, cells, matches
from robust_transfer.study.store import Store
from robust_transfer.study.work import Workshop


def test_none_of_few_images_is_not_taken_for_none_of_all(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    """Where no image stands, resampling finds none either; Wilson's interval knows better."""
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    rows = plain[1][(plain[1]["strategy"] == "tuned") & (plain[1]["evaluation"] == "far")]
    found = judge(workshop, Claim(says="x", of={"strategy": "tuned", "evaluation": "far"}, at_most=0.01), every)
    assert found is not None
    assert found.figure.high >= rows["robust_high"].min() > 0.01
    same = {"strategy": "tuned", "evaluation": "far"}
    nothing = judge(workshop, Claim(says="x", of=same, less=same, at_least=0.0), every)
    assert nothing is not None
    assert nothing.verdict == "open", "two that are the same are not one above the other"


def test_claims_are_judged_by_their_intervals(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    out, table = plain
    workshop, every = Workshop(recipe, Store(out), RUN), cells(recipe)
    near, far = ({"strategy": "tuned", "evaluation": name} for name in ("near", "far"))
    rows = table[table["strategy"] == "tuned"].set_index(["evaluation", "seed"])["robust"]
    gaps = [rows["near", seed] - rows["far", seed] for seed in (0, 1)]

    def judged(**bounds: Any) -> str:
        found = judge(workshop, Claim(says="x", of=near, less=far, **bounds), every)
        assert found is not None
        assert found.by_seed == pytest.approx(gaps)
        assert found.figure.value == pytest.approx(sum(gaps) / 2)
        return found.verdict

    assert judged(at_least=0.0) == "holds"
    assert judged(at_least=0.99) == "fails"
    assert judged(at_most=-0.01) == "fails"
    assert judged(at_least=sum(gaps) / 2) == "open"
    mean = judge(workshop, Claim(says="x", of=near, at_most=1.0), every)
    assert mean is not None
    assert mean.verdict == "holds"
    assert mean.figure.value == pytest.approx(rows["near"].mean())


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.0, 0.02, "open"), (0.001, 0.02, "holds"), (-0.02, 0.0, "open")]
)
def test_a_difference_whose_interval_touches_0_is_open(low: float, high: float, verdict: str) -> None:
    claim = Claim(says="x", of={"a": 1}, less={"a": 2}, at_least=0.0)
    assert _verdict(claim, Difference((low + high) / 2, low, high)) == verdict
    level = Claim(says="x", of={"a": 1}, at_most=0.0)  # a level, not a difference: 0 is 0
    assert _verdict(level, Difference(0.0, 0.0, 0.0)) in ("open", "holds")


def test_a_claim_about_cost_is_a_ratio_by_seed(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    which = {"evaluation": "near"}
    cost = plain[1][plain[1]["evaluation"] == "near"].set_index(["strategy", "set.l2", "seed"])["cost"]
    tuned, probe = ({**which, "strategy": "tuned"}, {**which, "strategy": "probe", "set.l2": 0.01})
    found = judge(workshop, Claim(says="x", of=tuned, less=probe, level="cost", at_least=1.0), every)
    assert found is not None
    ratios = [cost["tuned"].xs(seed, level="seed").item() / cost["probe", 0.01, seed] for seed in (0, 1)]
    assert found.by_seed == pytest.approx(ratios)
    assert (found.figure.low, found.figure.high) == pytest.approx((min(ratios), max(ratios)))
    assert found.verdict == ("holds" if min(ratios) >= 1 else "open")
    assert "times" in str(found)
    alone = judge(workshop, Claim(says="x", of=tuned, level="cost", at_most=1.0), every)
    assert alone is not None
    assert alone.figure.value == pytest.approx(cost["tuned"].mean())
    assert alone.verdict == "fails"


def test_a_claim_about_a_front_is_about_all_of_its_cells(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop, every = Workshop(recipe, Store(plain[0]), RUN), cells(recipe)
    near = {"evaluation": "near"}

    def rights(**which: object) -> list[Correctness]:
        found = [load_evaluation(workshop.evaluation_folder(c)) for c in every if matches(c, {**near, **which})]
        return [Correctness(e.right("clean").to_numpy(float), e.right("robust").to_numpy(float)) for e in found]

    claim = Claim(says="x", of={**near, "strategy": "tuned"}, above={**near, "strategy": "probe"}, at_least=-1.0)
    found = judge(workshop, claim, every)
    assert found is not None
    points, fronts = rights(strategy="tuned"), [rights(strategy="probe", seed=seed) for seed in (0, 1)]
    assert [len(front) for front in fronts] == [2, 2]
    assert found.figure == above_front(points, fronts)
    assert found.by_seed == pytest.approx([above_front([p], [f]).value for p, f in zip(points, fronts, strict=True)])
    assert found.verdict == ("open" if place(points, fronts) == "below" else "holds")
    assert diverged(workshop, claim, every) == 0


def test_a_claim_whose_cells_are_not_done_is_open(recipe: Recipe, tmp_path: Path) -> None:
    workshop = Workshop(recipe, Store(tmp_path), RUN)
    assert judge(workshop, Claim(says="x", of={"strategy": "tuned", "evaluation": "near"}), cells(recipe)) is None


def test_a_claim_about_several_cells_a_seed_is_refused(plain: tuple[Path, pd.DataFrame], recipe: Recipe) -> None:
    workshop = Workshop(recipe, Store(plain[0]), RUN)
    with pytest.raises(ConfigError, match="picks several"):
        judge(workshop, Claim(says="x", of={"strategy": "probe"}), cells(recipe))
