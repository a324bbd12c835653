"""Accuracy of each class and balanced accuracy, against scikit-learn's, and where they are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import QUIET, Brightness, grey
from sklearn.metrics import balanced_accuracy_score, recall_score

from robust_transfer.evaluation import evaluate, load_evaluation
from robust_transfer.evaluation.classes import balanced, by_class, unequal, worst


def table(labels: list[int], clean: list[int], adversarial: list[int]) -> pd.DataFrame:
    """Outcomes of so many examples, by one attack."""
    rows = {"label": labels, "clean_prediction": clean, "adversarial_prediction": adversarial}
    fate = ["clean" if c != y else "fgsm" if a != y else "" for y, c, a in zip(labels, clean, adversarial, strict=True)]
    return pd.DataFrame({**rows, "broken_by": fate})


def test_recalls_and_their_mean_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, size=300, p=[0.7, 0.2, 0.08, 0.02])
    clean = np.where(rng.random(300) < np.where(labels == 0, 0.9, 0.5), labels, rng.integers(0, 4, 300))
    adversarial = np.where((rng.random(300) < 0.6) & (clean == labels), labels, (labels + 1) % 4)
    found = by_class(table(labels.tolist(), clean.tolist(), adversarial.tolist()), "abcd")
    mean = balanced(found)
    for level, said in (("clean_accuracy", clean), ("robust_accuracy", adversarial)):
        recalls = recall_score(labels, said, average=None)
        assert [found[name][level].value for name in "abcd"] == pytest.approx(recalls.tolist())
        assert mean[f"balanced_{level}"].value == pytest.approx(balanced_accuracy_score(labels, said))
    assert [found[name]["clean_accuracy"].n for name in "abcd"] == np.bincount(labels).tolist()
    plain = float(np.mean(clean == labels))
    assert abs(mean["balanced_clean_accuracy"].value - plain) > 0.005  # or the test could not tell the two apart


def test_a_class_without_images_has_no_part_in_it() -> None:
    found = by_class(table([0, 0, 2], [0, 1, 2], [0, 0, 1]), "abc")
    assert list(found) == ["a", "c"]
    assert balanced(found)["balanced_clean_accuracy"].value == 0.75
    assert worst(found, "robust_accuracy")[0] == "c"


def test_of_equally_bad_classes_the_surest_is_named() -> None:
    found = by_class(table([0] * 2 + [1] * 5 + [2], [1] * 2 + [0] * 5 + [2], [1] * 2 + [0] * 5 + [2]), "abc")
    assert worst(found, "clean_accuracy")[0] == "b"


def test_one_image_more_is_no_imbalance() -> None:
    for counts, wanted in (((3, 3), False), ((3, 4), False), ((3, 5), True)):
        labels = [0] * counts[0] + [1] * counts[1]
        assert unequal(by_class(table(labels, labels, labels), "ab")) is wanted


SKEWED = [*range(40, 216, 5), 180], [1, *(int(value > 127.5) for value in range(45, 216, 5)), 0]


def test_it_is_told_and_kept_where_classes_are_unequal(tmp_path: Path) -> None:
    values, labels = SKEWED
    split = grey(values[12:], labels[12:])
    run = dataclasses.replace(QUIET, out=tmp_path / "run")
    found = evaluate(Brightness(), split, threat="linf:20/255", attack="fgsm", red_flag_examples=0, run=run)
    outcomes = found.outcomes
    said = np.where(outcomes["broken_by"] == "", outcomes["label"], 1 - outcomes["label"])
    assert found.balanced_robust_accuracy is not None
    assert found.balanced_robust_accuracy.value == pytest.approx(balanced_accuracy_score(outcomes["label"], said))
    told = str(found)
    assert f"balanced         {found.balanced_clean_accuracy} clean, {found.balanced_robust_accuracy} robust" in told
    assert "least robust: dark" in told
    assert not any(line.startswith("class ") for line in told.splitlines())
    loaded = load_evaluation(tmp_path / "run")
    assert (loaded.to_dict(), str(loaded)) == (found.to_dict(), told)


def test_it_is_not_told_where_they_are_equal() -> None:
    split = grey([40, 50, 200, 210], [0, 0, 1, 1])
    found = evaluate(Brightness(), split, threat="linf:20/255", attack="fgsm", red_flag_examples=0, run=QUIET)
    assert found.balanced_clean_accuracy is not None
    assert "balanced " not in str(found)
