"""The estimate of a study's cells, beside what they turn out to cost."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from study_helpers import NEAR, WANTED, written

from robust_transfer.checkpoint import Card, Checkpoint
from robust_transfer.classifier import Classifier
from robust_transfer.data import load_task
from robust_transfer.errors import ConfigError
from robust_transfer.pretraining import Fast, Free, Natural, Pretraining
from robust_transfer.run import Run
from robust_transfer.strategies import STRATEGIES, Adversarial, LinearProbe, LwF, Strategy
from robust_transfer.study import dry_run, load_recipe
from robust_transfer.study.estimate import BESIDE, OUTCOME_BYTES, RECORD_BYTES, ROW, START, Crew, Estimate
from robust_transfer.study.recipe import Recipe, cells
from robust_transfer.threat import Threat

RUN = Run(quiet=True, threads=1, precision="float32", device="cpu")


@pytest.mark.parametrize(
    "how",
    [
        Fast(epochs=2, augment=False),
        Free(epochs=8, replays=4, augment=False),
        Adversarial(method="free", replays=2, init="scratch", epochs=6, select="robust", augment=False),
        LwF(epochs=2, batch_size=32),
        LinearProbe(choose="robust", path=(1.0, 0.1)),
        *(entry.cls.from_settings(entry.cls.quick) for entry in STRATEGIES),
    ],
    ids=lambda how: type(how).__name__,
)
def test_the_estimate_of_a_cell_is_about_what_its_card_says(
    how: Pretraining | Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robust_transfer.production.refuse_collapse", lambda *_: None)
    task = load_task("builtin:digits", shots=30, seed=0)
    if isinstance(how, Pretraining):
        card = how(task, network="wrn_16_1", threat="linf:0.1", run=RUN).card
    else:
        torch.manual_seed(0)
        spec = Natural().network_spec("wrn_16_1", task, None)
        source = Checkpoint(
            Classifier.build(spec),
            Card(network=spec, class_names=task.class_names, method="x", threat=Threat.parse("linf:0.1")),
        )
        card = how(source, task, run=RUN).card
    assert 0.7 < how.passes(task) / card.cost.passes < 1.6


def test_what_a_study_takes_on_the_disk_is_about_what_is_there(
    plain: tuple[Path, pd.DataFrame], recipe: Recipe, tmp_path: Path
) -> None:
    out, _ = plain
    there = sum(
        path.stat().st_size
        for kind in ("sources", "results", "evaluations", "shared")
        for path in out.glob(f"{kind}/**/*")
    )
    told = dry_run(recipe, tmp_path / "new", run=RUN)
    assert 0.8 < told.stored / there < 1.25
    assert dry_run(recipe, out, run=RUN).stored == 0
    assert f"; {told.stored / 1e6:.0f} MB on the disk" in str(told)
    # one more seed of a tuned network: its weights, at least
    assert told.stored > told.results * max(path.stat().st_size for path in out.glob("results/*/model.safetensors"))


def test_what_comes_onto_the_disk_in_closed_form(tmp_path: Path) -> None:
    """By ten more shots of three classes, and by one more seed."""

    def stored(shots: int, seeds: list[int]) -> float:
        grid = [{**NEAR, "strategy": "tuned", "shots": shots, "seed": seeds}]
        return dry_run(load_recipe(written(tmp_path, **{**WANTED, "grid": grid})), tmp_path / "new", run=RUN).stored

    classifier = Classifier.build(Natural().network_spec("wrn_16_1", load_task("builtin:digits"), None))
    weights = sum(value.nbytes for value in classifier.state_dict().values())
    features, seen = 4 * classifier.num_features, load_task("builtin:digits")
    fingerprints = 32 * (30 + len(seen.train) + len(seen.val))
    assert stored(20, [0]) - stored(10, [0]) == 3 * 10 * (32 + features)
    seed = weights + fingerprints + RECORD_BYTES + 30 * features + RECORD_BYTES + 40 * OUTCOME_BYTES
    assert stored(10, [0, 1]) - stored(10, [0]) == seed
    assert stored(10, [0]) == seed + weights + 32 * (len(seen.train) + len(seen.val)) + RECORD_BYTES, "and the source"


def test_four_machines_take_what_their_processes_take(recipe: Recipe, tmp_path: Path) -> None:
    """Independently: the source first, then each result by whoever is free; here each has a process of its own."""
    one = dry_run(recipe, tmp_path / "new", run=RUN)
    four = dry_run(recipe, tmp_path / "new", run=RUN, jobs=2, nodes=4)
    assert (four.crew.workers, len(four.pieces), len(cells(recipe))) == (8, 6, 13)
    source, longest = sum(four.trained.values()), max(seconds for _, seconds in four.pieces)
    assert four.elapsed == pytest.approx(START + source + longest + 13 * BESIDE / 6 + 13 * ROW)
    assert one.elapsed == pytest.approx(START + one.seconds + 13 * BESIDE + 13 * ROW)
    assert four.bookkeeping == pytest.approx(8 * START + 13 * BESIDE + 13 * ROW)
    assert " in one process on this machine;" in str(one)
    assert " in 4 machines like this one with 2 processes each, bookkeeping included (" in str(four)
    with pytest.raises(ConfigError, match="nodes are machines, at least 1, not 0"):
        dry_run(recipe, tmp_path / "new", run=RUN, nodes=0)


def test_ten_thousand_cells_on_four_machines() -> None:
    """20 s each, in 64 processes: 157 turns of 20.2 s at the most; 50 GB."""
    told = Estimate(10_000, 10_000, 0, 10_000, {}, [("a", 20.0)] * 10_000, stored=5e10, crew=Crew(4, 16))
    assert told.seconds == 200_000
    assert told.elapsed == pytest.approx(START + 157 * (20 + BESIDE) + 10_000 * ROW)
    assert str(told) == (
        "10000 cells, 10000 of them missing: 0 sources to train, 10000 results to make, 10000 evaluations; about 55 h 33 min "
        "in one process on this machine, 53 min in 4 machines like this one with 16 processes each, bookkeeping included "
        "(1.3 % of their work); 50.0 GB on the disk"
    )
