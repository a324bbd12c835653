"""Paired comparison: hand-made outcomes whose differences are known, seeds, and what may not be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robust_transfer.comparison import compare
from robust_transfer.errors import DataError
from robust_transfer.evaluation import Evaluation, load_evaluation
from robust_transfer.statistics.intervals import paired_bootstrap, wilson


def evaluation(broken_by: list[str], ids: list[int] | None = None, **changes: Any) -> Evaluation:
    n = len(broken_by)
    clean, robust = (sum(b not in bad for b in broken_by) for bad in (("clean",), ("clean", "pgd-20")))
    table = pd.DataFrame(
        {
            "index": np.asarray(ids if ids is not None else range(n), np.int64),
            "label": np.arange(n, dtype=np.int64) % 3,
            "clean_prediction": np.zeros(n, np.int64),
            "adversarial_prediction": np.zeros(n, np.int64),
            "broken_by": broken_by,
            "margin": np.zeros(n, np.float32),
        }
    )
    settings: dict[str, Any] = {
        "schema": 1,
        "clean_accuracy": wilson(clean, n),
        "robust_accuracy": wilson(robust, n),
        "constant_accuracy": 0.4,
        "by_attack": {"pgd-20": robust / n},
        "by_class": None,
        "curve": None,
        "transferred": None,
        "untested": [],
        "threat": "linf:8/255",
        "attack": "pgd-20",
        "split": "test",
        "input_size": 32,
        "precision": "float32",
        "seed": 0,
        "flags": [],
        "seconds": 1.0,
        "passes": 10,
        "data_hash": "d" * 16,
        "model_hash": "m" * 16,
        "source_hash": None,
        "versions": {},
        "hardware": {},
        "command": "",
    }
    return Evaluation(**{**settings, **changes}, outcomes=table)


# clean: both right on 6, only A on 1, only B on 2, neither on 1; robust: both 2, only A 2, only B 4, neither 2
A = ["", "", "", "", "pgd-20", "pgd-20", "pgd-20", "clean", "clean", "clean"]
B = ["", "", "pgd-20", "clean", "", "", "", "", "pgd-20", "clean"]


def saved(folder: Path, *args: Any, **changes: Any) -> Path:
    evaluation(*args, **changes).save(folder)
    return folder


def test_counts_and_differences_by_hand(tmp_path: Path) -> None:
    found = compare(saved(tmp_path / "a", A), saved(tmp_path / "b", B))
    clean, robust = found.clean, found.robust
    assert (clean.both, clean.only_a, clean.only_b, clean.neither) == (6, 1, 2, 1)
    assert (robust.both, robust.only_a, robust.only_b, robust.neither) == (2, 2, 4, 2)
    assert (clean.a, clean.b, clean.difference.value) == pytest.approx((0.7, 0.8, 0.1))
    assert (robust.a, robust.b, robust.difference.value) == pytest.approx((0.4, 0.6, 0.2))
    assert clean.difference.low < 0 < clean.difference.high
    assert clean.by_seed == pytest.approx((0.1,))
    assert (found.n, found.seeds, found.threat, found.attack) == (10, 1, "linf:8/255", "pgd-20")


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    order = [3, 1, 4, 0, 2, 9, 8, 7, 6, 5]
    shuffled = evaluation([B[i] for i in order], ids=order)
    shuffled.outcomes["label"] = np.asarray(order) % 3
    shuffled.save(tmp_path / "shuffled")
    a = saved(tmp_path / "a", A)
    assert compare(a, tmp_path / "shuffled") == compare(a, saved(tmp_path / "b", B))


def test_swapping_the_two_turns_the_sign(tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a", A), saved(tmp_path / "b", B)
    there, back = compare(a, b), compare(b, a)
    assert back.robust.difference.value == -there.robust.difference.value
    assert (back.robust.only_a, back.robust.only_b) == (there.robust.only_b, there.robust.only_a)


def test_a_result_does_not_differ_from_itself(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", A)
    found = compare(a, a)
    assert (found.robust.difference.low, found.robust.difference.high) == (0, 0)
    assert str(found).count("no difference is shown") == 2


def test_the_text_names_the_better_one(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", ["pgd-20"] * 40 + [""] * 60)
    b = saved(tmp_path / "b", ["pgd-20"] * 10 + [""] * 90)
    text = str(compare(a, b))
    assert "robust  A 60.0 %, B 90.0 %, difference +30.0 points [+21.0, +39.0]: B is better" in text
    assert "right: both 60, only A 0, only B 30, neither 10" in text
    assert "A is better" in str(compare(b, a))
    assert "clean   A 100.0 %, B 100.0 %, difference +0.0 points [+0.0, +0.0]: no difference is shown" in text
    assert "by seed" not in text


def test_json_holds_it_all(tmp_path: Path) -> None:
    found = compare(saved(tmp_path / "a", A), saved(tmp_path / "b", B))
    raw = json.loads(json.dumps(found.to_dict()))
    assert raw["robust"]["difference"].keys() == {"value", "low", "high"}
    assert raw["robust"]["only_b"] == 4
    assert raw["n"] == 10


def test_seeds_are_paired_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = {(who, seed): rng.choice(["", "pgd-20", "clean"], 30).tolist() for who in "ab" for seed in range(11)}
    for (who, seed), broken_by in outcomes.items():
        saved(tmp_path / who / f"seed{seed}", broken_by)
    (tmp_path / "a" / "notes").mkdir()
    found = compare(tmp_path / "a", tmp_path / "b")
    right = {key: np.asarray([b == "" for b in broken_by], float) for key, broken_by in outcomes.items()}
    differences = [right["b", seed] - right["a", seed] for seed in range(11)]
    assert found.seeds == 11
    assert found.robust.by_seed == pytest.approx([d.mean() for d in differences])
    assert found.robust.difference == paired_bootstrap(differences)
    assert found.robust.both + found.robust.only_a + found.robust.only_b + found.robust.neither == 330
    assert "over 11 seeds" in str(found)
    assert "by seed:" in str(found)
    lists = compare(*([tmp_path / who / f"seed{seed}" for seed in range(11)] for who in "ab"))
    assert lists == found


def test_evaluations_in_memory_are_compared_as_their_folders_are(tmp_path: Path) -> None:
    folders = [[saved(tmp_path / f"{name}{seed}", which) for seed in range(2)] for name, which in (("a", A), ("b", B))]
    loaded = [[load_evaluation(folder) for folder in side] for side in folders]
    assert compare(*loaded) == compare(*folders)
    assert (
        compare(loaded[0][0], loaded[1][0])
        == compare(folders[0][0], loaded[1][0])
        == compare(folders[0][0], folders[1][0])
    )
    with pytest.raises(DataError, match="the list of evaluations is empty"):
        compare([], [])


def test_seeds_with_images_of_their_own_are_resampled_each_on_its_own(tmp_path: Path) -> None:
    for who, outcomes in (("a", A), ("b", B)):
        saved(tmp_path / who / "seed0", outcomes)
        saved(tmp_path / who / "seed1", outcomes, ids=list(range(50, 60)), data_hash="e" * 16)
    found = compare(tmp_path / "a", tmp_path / "b")
    difference = np.asarray([b == "" for b in B], float) - np.asarray([a == "" for a in A], float)
    assert found.robust.difference == paired_bootstrap([difference] * 2, same_images=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": list(range(1, 11))}, "different examples"),
        ({"threat": "linf:4/255"}, r"differ in threat \(linf:8/255 and linf:4/255\)"),
        ({"attack": "pgd-10"}, "differ in attack"),
        ({"data_hash": "e" * 16}, "differ in data hash"),
        ({"input_size": 64}, "differ in input size"),
        ({"split": "val"}, "differ in split"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    a, b = saved(tmp_path / "a", A), saved(tmp_path / "b", B, **changes)
    with pytest.raises(DataError, match=said):
        compare(a, b)


def test_other_labels_are_not_compared(tmp_path: Path) -> None:
    b = evaluation(B)
    b.outcomes["label"] = 1
    b.save(tmp_path / "b")
    with pytest.raises(DataError, match="different examples"):
        compare(saved(tmp_path / "a", A), tmp_path / "b")


def test_seeds_that_do_not_match_are_refused(tmp_path: Path) -> None:
    for seed in range(2):
        saved(tmp_path / "a" / f"seed{seed}", A)
        saved(tmp_path / "mixed" / f"seed{seed}", B, attack=f"pgd-{seed + 1}")
    with pytest.raises(DataError, match="A has 2 evaluations and B has 1"):
        compare(tmp_path / "a", saved(tmp_path / "b", B))
    with pytest.raises(DataError, match="two seeds of A differ in attack"):
        compare(tmp_path / "mixed", tmp_path / "mixed")


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no evaluation"):
        compare(tmp_path / "nowhere", saved(tmp_path / "b", B))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no evaluation"):
        compare(tmp_path / "empty", tmp_path / "b")
