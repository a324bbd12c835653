"""Evaluation: exactly known figures, and the evaluated images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from evaluation_helpers import (
    BREAKABLE,
    COLUMNS,
    EPS,
    QUIET,
    VALUES,
    Brightness,
    N,
    Same,
    checkpoint,
    grey,
    labelled_greys,
    noise,
)
from torch import nn

from robust_transfer.attacks import FGSM
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DataError, ThreatError
from robust_transfer.evaluation import evaluate
from robust_transfer.run import Run
from robust_transfer.statistics.intervals import wilson


@pytest.fixture
def split() -> Split:
    return labelled_greys()


# ---------------------------------------------------------------- figures


def test_figures_of_a_model_that_is_understood(split: Split) -> None:
    found = evaluate(Brightness(), split, threat=f"linf:{EPS * 255:g}/255", attack="fgsm+pgd-5", run=QUIET)
    assert found.clean_accuracy == wilson(N - 2, N)
    assert found.robust_accuracy == wilson(N - 2 - BREAKABLE, N)
    assert found.constant_accuracy == max(split.labels.bincount()).item() / N
    assert found.by_attack == {"fgsm": (N - 2 - BREAKABLE) / N, "pgd-5": (N - 2 - BREAKABLE) / N}
    assert (found.threat, found.attack, found.split) == ("linf:20/255", "fgsm+pgd-5", "unknown")
    assert (found.input_size, found.precision, found.seed, found.flags) == (4, "float32", 0, [])

    table = found.outcomes
    assert list(table.columns) == COLUMNS
    assert table["index"].tolist() == list(range(100, 100 + N))
    assert table["label"].tolist() == split.labels.tolist()
    near = torch.abs(VALUES - 127.5) < 20
    assert table["broken_by"].tolist() == ["clean", "clean", *("fgsm" if hit else "" for hit in near.tolist()[2:])]
    assert table["clean_prediction"].tolist() == (VALUES > 127.5).int().tolist()
    flipped = (VALUES > 127.5) != near
    assert table["adversarial_prediction"].tolist() == flipped.int().tolist()
    # an attack moves every pixel by eps towards the threshold; what is wrong when clean is left alone
    exact = 40 * (EPS - (VALUES - 127.5).abs() / 255)
    exact[:2] = 40 * (127.5 - VALUES[:2]) / 255
    assert table["margin"].tolist() == pytest.approx(exact.tolist(), abs=1e-4)


def test_the_report_has_its_classes_in_columns(split: Split) -> None:
    found = evaluate(Brightness(), split, threat="linf:20/255", attack="fgsm", run=QUIET)
    shares = {"clean_accuracy": wilson(3, 4), "robust_accuracy": wilson(1, 4)}
    classes_of = {"ox": shares, "a_long_name_of_a_class": shares}
    told = str(dataclasses.replace(found, by_class=classes_of, per_class=True)).splitlines()
    classes = [line for line in told if line.startswith("class ")]
    assert len({line.index(" 75.0 %") for line in classes}) == 1
    assert [line.split()[1] for line in classes] == ["ox", "a_long_name_of_a_class"]


def test_by_attack_is_cumulative_and_later_attacks_get_what_is_left(split: Split) -> None:
    weak = FGSM(step=0.5)
    found = evaluate(Brightness(), split, threat="linf:20/255", attack=[weak, FGSM()], run=QUIET)
    first = int(((VALUES - 127.5).abs() < 10).sum())
    assert found.by_attack == {"fgsm:step=0.5": (N - 2 - first) / N, "fgsm": (N - 2 - BREAKABLE) / N}
    counts = found.outcomes["broken_by"].value_counts()
    assert (counts["clean"], counts["fgsm:step=0.5"], counts["fgsm"]) == (2, first, BREAKABLE - first)
    assert found.robust_accuracy.value == found.by_attack["fgsm"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_budget_robust_is_clean(norm: str) -> None:
    model, data = checkpoint(), noise(40)
    found = evaluate(model, data, red_flag_examples=0, threat=f"{norm}:0", run=QUIET)
    assert found.robust_accuracy == found.clean_accuracy
    assert set(found.outcomes["broken_by"]) <= {"", "clean"}


def test_a_constant_classifier_is_flagged(split: Split) -> None:
    found = evaluate(Same(), split, run=QUIET)
    assert found.robust_accuracy.value == found.clean_accuracy.value == found.constant_accuracy
    assert found.flags[:2] == ["all predictions are one class", "constant classifier is more robust"]
    assert any("the gradient is zero" in flag for flag in found.flags[:-2])
    one_class = split.subset((split.labels == 1).nonzero()[2:, 0])
    assert "all predictions are one class" not in evaluate(Brightness(), one_class, run=QUIET).flags


def test_a_model_below_the_constant_classifier_is_flagged(split: Split) -> None:
    found = evaluate(Brightness(), split, threat="linf:80/255", attack="fgsm", run=QUIET)
    assert found.robust_accuracy.value < found.constant_accuracy
    assert found.flags == ["constant classifier is more robust"]


def test_other_class_names_are_refused_and_another_order_is_followed() -> None:
    model, data = checkpoint(), noise(20)
    straight = evaluate(model, data, red_flag_examples=0, run=QUIET, attack="fgsm")
    assert straight.notes == []
    renamed = Split.in_memory(data.images(), data.labels, tuple("abcdefghij"))
    with pytest.raises(DataError, match=r"only in the model 'c0'.*only in the data 'a'.*class map"):
        evaluate(model, renamed, run=QUIET, attack="fgsm")
    mapped = evaluate(
        model,
        renamed,
        red_flag_examples=0,
        run=QUIET,
        attack="fgsm",
        class_map={c: f"c{i}" for i, c in enumerate("abcdefghij")},
    )
    assert "'a' is 'c0'" in mapped.notes[0]
    back = Split.in_memory(data.images(), 9 - data.labels, tuple(reversed(data.class_names)))
    turned = evaluate(model, back, red_flag_examples=0, run=QUIET, attack="fgsm")
    assert "matched by name" in turned.notes[0]
    for found in (mapped, turned):
        assert found.outcomes.equals(straight.outcomes)
        assert found.class_names == list(model.card.class_names)


def test_the_text_says_what_was_found(split: Split) -> None:
    text = str(evaluate(Brightness(), split, threat="linf:80/255", attack="fgsm+pgd-2", run=QUIET))
    assert "clean accuracy   94.4 % [81.9, 98.5]  (36 images, unknown)" in text
    assert "(linf:80/255, fgsm+pgd-2)" in text
    assert "after pgd-2" in text
    assert "doubt            constant classifier is more robust" in text


def test_a_plain_run_does_not_depend_on_batches_or_the_callers_mode(split: Split) -> None:
    model, data = checkpoint(), noise(50)
    whole = evaluate(model, data, red_flag_examples=0, run=QUIET, attack="pgd-3", batch_size=50)
    model.classifier.train()
    with torch.inference_mode():
        parts = evaluate(model, data, red_flag_examples=0, run=QUIET, attack="pgd-3", batch_size=7)
    assert model.classifier.training
    pd.testing.assert_frame_equal(whole.outcomes, parts.outcomes)
    assert whole.passes == parts.passes > 50
    assert whole.data_hash == parts.data_hash == data.hash
    assert whole.model_hash == model.hash


def test_seeds_matter() -> None:
    model, data = checkpoint(), noise(50)
    margins = [
        evaluate(model, data, red_flag_examples=0, run=Run(quiet=True, seed=seed), attack="pgd-1")
        .outcomes["margin"]
        .tolist()
        for seed in (0, 1)
    ]
    assert margins[0] != margins[1]


# ---------------------------------------------------------------- what is evaluated on


def test_a_subset_is_stratified_seeded_and_keeps_its_ids() -> None:
    labels = [0] * 50 + [1] * 30 + [2] * 15 + [3] * 5
    data = grey([100] * 100, labels, ("a", "b", "c", "d"), first_id=1000)

    def chosen(examples: int, seed: int = 0) -> pd.DataFrame:
        run = Run(quiet=True, seed=seed)
        return evaluate(Brightness(4), data, examples=examples, run=run, attack="fgsm").outcomes

    # shares of 13 are 6.5, 3.9, 1.95 and 0.65: the remainders go to c, b and d
    assert chosen(13)["label"].value_counts().to_dict() == {0: 6, 1: 4, 2: 2, 3: 1}
    assert chosen(20)["label"].value_counts().to_dict() == {0: 10, 1: 6, 2: 3, 3: 1}
    first = chosen(20)
    assert first["index"].is_monotonic_increasing
    assert [labels[i - 1000] for i in first["index"]] == first["label"].tolist()
    assert first["index"].tolist() == chosen(20)["index"].tolist()
    assert first["index"].tolist() != chosen(20, seed=1)["index"].tolist()
    assert len(chosen(1)) == 1
    assert len(chosen(100)) == len(chosen(5000)) == 100


def test_images_come_at_the_models_size_and_the_threat_from_its_card() -> None:
    model = checkpoint(size=12)
    found = evaluate(model, noise(20, size=8), run=QUIET, attack="fgsm")
    assert found.input_size == 12
    assert found.threat == "linf:4/255"
    assert evaluate(model.classifier, noise(20), run=QUIET, attack="fgsm").threat == "linf:8/255"
    assert evaluate(checkpoint(threat=None), noise(20), run=QUIET, attack="fgsm").threat == "linf:8/255"
    assert evaluate(model, noise(20), threat="l2:1", run=QUIET, attack="fgsm").threat == "l2:1"


def test_the_hash_of_a_plain_module_is_that_of_its_weights(split: Split) -> None:
    def hash_of(model: nn.Module) -> str:
        return evaluate(model, split, red_flag_examples=0, threat="linf:0", run=QUIET).model_hash

    moved = Brightness()
    with torch.no_grad():
        moved.threshold.add_(0.01)
    assert hash_of(Brightness()) == hash_of(Brightness())
    others = [hash_of(model) for model in (Brightness(), moved, Brightness().bfloat16(), Same())]
    assert len(set(others)) == 4


def sized(split: Split, size: int | None) -> Split:
    return Split(split.reader, split.positions, split.labels, split.ids, split.class_names, size)


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"examples": 0}, ConfigError, "examples must be at least 1, not 0"),
        ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ({"attack": "stronger"}, ConfigError, "did you mean 'strong'"),
        ({"attack": "source-features"}, ConfigError, "give --source"),
        ({"threat": "linf:8"}, ThreatError, "did you mean linf:8/255"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    split: Split, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        evaluate(Brightness(), split, run=QUIET, **settings)


def test_data_that_does_not_fit_is_refused(split: Split) -> None:
    with pytest.raises(DataError, match="the split is empty"):
        evaluate(Brightness(), split.subset(torch.arange(0)), run=QUIET)
    with pytest.raises(DataError, match="different sizes"):
        evaluate(Brightness(), sized(split, None), run=QUIET)
    with pytest.raises(DataError, match="10 classes apart and the data has 2"):
        evaluate(checkpoint(), split, run=QUIET)


def test_progress_goes_to_standard_error_alone(split: Split, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(Brightness(), split, run=Run(), attack="fgsm")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{N}/{N}" in shown.err
    evaluate(Brightness(), split, run=QUIET, attack="fgsm")
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- what is beside


@pytest.mark.usefixtures("told")
def test_the_headline_is_told_before_what_takes_longer(split: Split, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(Brightness(), split, run=Run(), attack="fgsm")
    shown = capsys.readouterr()
    assert found.headline() in shown.err
    assert shown.err.index(found.headline()) < shown.err.index("red flags")
    evaluate(Brightness(), split, run=Run(), attack="fgsm", red_flag_examples=0)
    assert found.headline() not in capsys.readouterr().err  # nothing comes after it


def test_red_flags_are_looked_for_on_images_that_are_right(split: Split) -> None:
    assert evaluate(Brightness(), split, run=QUIET, attack="fgsm").red_flag_examples == 30
    assert evaluate(Brightness(), split, run=QUIET, attack="fgsm", thorough=True).red_flag_examples == N - 2
    assert evaluate(Brightness(), split, run=QUIET, attack="fgsm", red_flag_examples=7).red_flag_examples == 7
    wrong = Split.in_memory(split.images(), 1 - split.labels, split.class_names)
    found = evaluate(Brightness(), wrong.subset(torch.arange(2, N)), run=QUIET, attack="fgsm")
    assert found.red_flag_examples == 0


def test_more_is_measured_where_more_is_asked_for(split: Split, tmp_path: Path) -> None:
    def again(**asked: Any) -> int:
        run = Run(quiet=True, device="cpu", precision="float32", out=tmp_path, resume=True)
        return evaluate(Brightness(), split, run=run, attack="fgsm", **asked).red_flag_examples

    assert again(red_flag_examples=5) == again() == again(red_flag_examples=4) == 5
    assert again(thorough=True) == N - 2 == again()


def test_old_names_are_taken_and_named(split: Split) -> None:
    old: Any = {"beyond": 0, "checked": 3, "budget": 60.0}
    with pytest.warns(FutureWarning) as said:
        found = evaluate(Brightness(), split, run=QUIET, attack="fgsm", **old)
    assert found.red_flag_examples == 3
    assert [str(each.message).split(": ")[1].split(" is now called ")[0] for each in said] == list(old)
    with pytest.raises(ConfigError, match="give red_flag_examples only"):
        evaluate(Brightness(), split, run=QUIET, red_flag_examples=0, checked=0)  # type: ignore[call-arg]
