"""Certificates in an evaluation: recorded whole, added to what is there, and never above what attacks leave."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from certification_helpers import bodies, classifier, inner_images, labelled, stored
from evaluation_helpers import QUIET

from robust_transfer.certification import FeatureShift, Smoothing
from robust_transfer.certification import feature_shift as proof
from robust_transfer.classifier import Classifier
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.evaluation import Evaluation, evaluate, load_evaluation
from robust_transfer.statistics.intervals import wilson

BOTH = "smoothing:sigma=0.1,n=300+feature-shift"


@pytest.fixture(scope="module")
def model() -> Classifier:
    return classifier(bodies(0)["mlp"])


@pytest.fixture(scope="module")
def split() -> Split:
    """24 images, every sixth with a wrong label."""
    right = labelled(bodies(0)["mlp"], inner_images(24), 4)
    labels = torch.where(torch.arange(24) % 6 == 0, (right.labels + 1) % 4, right.labels)
    return stored(right.on("cpu")[0], labels, 4)


@pytest.fixture(scope="module")
def found(model: Classifier, split: Split) -> Evaluation:
    return evaluate(model, split, threat="l2:0.1", attack="pgd-20", run=QUIET, red_flag_examples=0, certify=BOTH)


def test_the_record_holds_all_that_was_asked(found: Evaluation, split: Split) -> None:
    smoothed, proved = found.certificates
    assert (smoothed.name, proved.name) == ("smoothing:sigma=0.1,n=300", "feature-shift")
    assert smoothed.settings == {"examples": None, "sigma": 0.1, "n": 300, "n0": 100, "alpha": 0.001}
    assert (smoothed.norm, smoothed.pixels, smoothed.n, smoothed.alpha, smoothed.seed) == ("l2", 48, 24, 0.001, 0)
    assert smoothed.passes == 24 * 400
    assert [share.radius for share in smoothed.curve] == [0.25, 0.5, 0.75, 1.0]
    assert (proved.norm, proved.alpha, proved.abstained.value, proved.vacuous) == ("l2", 0.0, 0.0, "")
    assert proved.clean_accuracy == found.clean_accuracy == wilson(20, 24)
    table, labels = found.outcomes, split.labels.numpy()
    for certificate in found.certificates:
        radii, right = table[f"radius of {certificate.name}"], table[f"class of {certificate.name}"] == labels
        assert certificate.own.certified_accuracy == wilson(int((right & (radii >= 0.1)).sum()), 24)
        for share in certificate.curve:
            assert share.certified_accuracy == wilson(int((right & (radii >= share.radius)).sum()), 24)
    assert found.passes > smoothed.passes + proved.passes


def test_it_is_saved_read_and_shown(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path)
    again = load_evaluation(tmp_path)
    assert again.certificates == found.certificates
    pd.testing.assert_frame_equal(again.outcomes, found.outcomes, check_dtype=False)
    stored = json.loads((tmp_path / "evaluation.json").read_text())["certificates"][0]
    assert stored["curve"][0]["certified_accuracy"].keys() == {"value", "low", "high", "n"}
    assert str(again) == str(found)
    text = str(found)
    for words in (
        "abstains",
        "smoothed, clean",
        "no radius is larger than 0.2",
        "certified 0.25",
        "certified 1 ",
        "9,600 image passes",
        "with confidence 99.9 %",
    ):
        assert words in text
    assert "sqrt" not in text  # the threat is in l2


def test_for_linf_the_conversion_is_said(model: Classifier, split: Split) -> None:
    found = evaluate(
        model, split, threat="linf:0.01", attack="fgsm", run=QUIET, red_flag_examples=0, certify=Smoothing(n=200)
    )
    [made] = found.certificates
    assert made.own.radius == pytest.approx(0.01 * 48**0.5)
    assert made.norm == "l2"
    assert "linf eps <= R / sqrt(48)" in str(found)
    assert "R = 0.0693" in str(found)


@pytest.mark.parametrize("threat", ["linf:0.03", "l2:0.15"])
def test_the_proof_is_never_above_what_the_strongest_attack_leaves(threat: str) -> None:
    """Of every small network, image by image."""
    certain = 0
    for seed in range(3):
        for name in ("linear", "mlp", "convolutions"):
            body = bodies(seed)[name]
            images = labelled(body, inner_images(16, seed), 4)
            made = evaluate(
                classifier(body), images, threat=threat, attack="pgd-20:restarts=3+apgd-t-20", run=QUIET,
                red_flag_examples=0, certify="feature-shift",
            )  # fmt: skip
            [proved] = made.certificates
            assert proved.own.certified_accuracy.value <= made.robust_accuracy.value
            assert not [flag for flag in made.flags if "certified" in flag]
            stands = made.outcomes["radius of feature-shift"] >= float(threat.partition(":")[2])
            assert (made.outcomes["broken_by"][stands] == "").all()
            certain += int(stands.sum())
    assert certain > 30


def test_a_proof_that_an_attack_contradicts_is_flagged(
    model: Classifier, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "stands", lambda bounds, x, eps, norm: torch.ones(len(x), dtype=torch.bool))
    made = evaluate(
        model, split, threat="linf:0.2", attack="pgd-20", run=QUIET, red_flag_examples=0, certify="feature-shift"
    )
    broken = (~made.outcomes["broken_by"].isin(["", "clean"])).sum()
    assert broken > 5
    assert f"{broken} images are certified by feature-shift and were broken by an attack" in made.flags[-1]


def test_a_vacuous_proof_says_so_with_its_numbers(split: Split) -> None:
    deep = classifier(bodies(2)["residual"])
    images = labelled(bodies(2)["residual"], inner_images(8), 4)
    made = evaluate(
        deep, images, threat="linf:0.3", attack="fgsm", run=QUIET, red_flag_examples=0, certify="feature-shift"
    )
    [proved] = made.certificates
    bound, allowed = proved.figures["median_shift_bound"], proved.figures["median_shift_allowed"]
    assert proved.own.certified_accuracy.value == 0
    assert bound > allowed > 0
    assert (
        f"vacuous: no image is certified within linf:0.3. Features are proved to move by no more than {bound:.3g}"
        in str(made)
    )
    assert "certified 0" not in str(made)


def test_a_sample_is_certified_where_that_was_asked(model: Classifier, split: Split) -> None:
    made = evaluate(
        model,
        split,
        threat="l2:0.1",
        attack="fgsm",
        run=QUIET,
        red_flag_examples=0,
        certify="smoothing:examples=8,n=200",
    )
    [smoothed] = made.certificates
    radii, classes = (made.outcomes[f"{kind} of {smoothed.name}"] for kind in ("radius", "class"))
    assert smoothed.n == smoothed.clean_accuracy.n == int(radii.notna().sum()) == 8
    assert (classes[radii.isna()] == -1).all()


def test_a_finished_evaluation_is_added_to(model: Classifier, split: Split, tmp_path: Path) -> None:
    run = replace(QUIET, out=tmp_path / "run")
    how = {"threat": "l2:0.1", "attack": "fgsm", "red_flag_examples": 0}
    evaluate(model, split, run=run, **how)  # type: ignore[arg-type]
    again = replace(run, resume=True)
    more = evaluate(model, split, run=again, certify="smoothing:n=200", **how)  # type: ignore[arg-type]
    assert [each.name for each in more.certificates] == ["smoothing:n=200"]
    both = evaluate(model, split, run=again, certify=[Smoothing(n=200), FeatureShift()], **how)  # type: ignore[arg-type]
    assert [each.name for each in both.certificates] == ["smoothing:n=200", "feature-shift"]
    assert both.certificates[0] == more.certificates[0]
    assert load_evaluation(tmp_path / "run").certificates == both.certificates
    assert not (tmp_path / "run" / "state").exists()


def test_what_is_interrupted_goes_on(
    model: Classifier, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, how = replace(QUIET, out=tmp_path / "run"), {"threat": "l2:0.1", "attack": "fgsm", "red_flag_examples": 0}
    whole = evaluate(model, split, run=QUIET, certify="smoothing:n=4096", **how)  # type: ignore[arg-type]
    monkeypatch.setattr("robust_transfer.certification.state.EVERY", 0.0)
    real, calls = Smoothing.counts, list[int]()

    def killed(*given: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Smoothing, "counts", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, split, run=run, certify="smoothing:n=4096", **how)  # type: ignore[arg-type]
    before = len(calls)

    def counted(*given: object) -> torch.Tensor:
        calls.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Smoothing, "counts", counted)
    made = evaluate(model, split, run=replace(run, resume=True), certify="smoothing:n=4096", **how)  # type: ignore[arg-type]
    assert len(calls) - before == 2 * 12 - 8  # blocks of two images, four of which are done
    name = "radius of smoothing:n=4096"
    assert np.array_equal(made.outcomes[name], whole.outcomes[name])
    assert not (tmp_path / "run" / "state").exists()


def test_for_want_of_time_it_is_untested(model: Classifier, split: Split, tmp_path: Path) -> None:
    run = replace(QUIET, out=tmp_path / "run")
    made = evaluate(
        model, split, threat="l2:0.1", attack="fgsm", run=run, red_flag_examples=0, time_limit=60,
        certify="smoothing:n=4000000000",
    )  # fmt: skip
    assert made.certificates == []
    assert "the certificate smoothing:n=4000000000: for want of time" in made.untested


def test_a_network_without_bounds_is_refused_before_it_is_attacked(split: Split, tmp_path: Path) -> None:
    odd = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    run = replace(QUIET, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"GELU.*certify by smoothing"):
        evaluate(classifier(odd), split, attack="fgsm", run=run, certify="feature-shift")
    assert not (tmp_path / "run" / "state").exists()
