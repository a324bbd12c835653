"""The estimator: scikit-learn's own checks, and that it is what `transfer` and `evaluate` make."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_source
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from robust_transfer import LinearProbe, RobustTransferClassifier, evaluate, load_checkpoint
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError
from robust_transfer.estimator import classifier
from robust_transfer.run import Run
from robust_transfer.sources import load_source

SMALL = "small"  # a name: the checks are collected before there are fixtures, and their ids must not change
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for equal probabilities to seven digits, and the probe's solver stops at a Newton decrement of 1e-11, "
        "before that: test_a_weight_counts_as_so_many_pictures has them equal to 1e-3"
    ),
    "check_class_weight_classifiers": (
        "weighs one class ten million times the other, until one class is all that is said: refused as collapse, in words"
    ),
}
TABLES: dict[str, Any] = {"image_shape": "square", "pixel_range": "fit"}


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Source of that name: 8 pixels, random weights."""
    made = make_source(threat="linf:8/255")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            classifier, "load_source", lambda name, **how: made if name == SMALL else load_source(name, **how)
        )
        yield


def checks_of(estimator: RobustTransferClassifier) -> pytest.MarkDecorator:
    """scikit-learn's checks, in a list: before 1.7 it hands pytest a generator, which pytest 9 warns of."""
    mark = parametrize_with_checks([estimator], expected_failed_checks=lambda estimator: EXPECTED)
    names, cases = mark.args
    return pytest.mark.parametrize(names, list(cases), **mark.kwargs)


@checks_of(RobustTransferClassifier(SMALL, **TABLES))
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    """Strictly: one that is expected to fail and passes is a failure (``xfail_strict``)."""
    check(estimator)


@pytest.mark.slow
@checks_of(RobustTransferClassifier(**TABLES))
def test_scikit_learns_checks_from_the_bundled_source(estimator: Any, check: Any) -> None:
    check(estimator)


def test_tables_are_promised_only_where_they_have_a_meaning() -> None:
    assert not get_tags(RobustTransferClassifier()).input_tags.two_d_array
    assert get_tags(RobustTransferClassifier()).input_tags.three_d_array
    assert get_tags(RobustTransferClassifier(image_shape=(8, 8))).input_tags.two_d_array
    with pytest.raises(ValueError, match="give image_shape"):
        RobustTransferClassifier(SMALL).fit(np.zeros((4, 64)), [0, 1, 0, 1])


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """400 grey pictures, and labels that are words."""
    loaded = load_digits()
    pictures = np.rint(loaded.images[:400] * 255 / 16).astype(np.uint8)
    return pictures, np.array([f"digit {label}" for label in loaded.target[:400]])


Digits = tuple[NDArray[np.uint8], NDArray[np.str_]]


def probe(**more: Any) -> RobustTransferClassifier:
    return RobustTransferClassifier(SMALL, **{"random_state": 0, **more})


def test_it_is_what_transfer_makes(digits: Digits) -> None:
    X, y = digits
    found = probe(strategy=LinearProbe(l2=0.01), val=0).fit(X[:300], y[:300])
    assert found.classes_.tolist() == [f"digit {i}" for i in range(10)]
    assert found.model_.card.class_names == tuple(found.classes_)
    assert found.model_.card.metrics["l2"] == 0.01
    assert found.model_.card.data["train"] == 300
    x = torch.from_numpy(X[300:]).float()[:, None].repeat(1, 3, 1, 1) / 255
    with torch.no_grad():
        wanted = found.model_.classifier.eval()(x).double()
    assert found.decision_function(X[300:]) == pytest.approx(wanted.numpy(), abs=1e-5)
    assert found.predict_proba(X[300:]) == pytest.approx(wanted.softmax(1).numpy(), abs=1e-5)
    said = found.predict(X[300:])
    assert said.tolist() == [f"digit {i}" for i in wanted.argmax(1).tolist()]
    assert found.score(X[300:], y[300:]) == np.mean(said == y[300:]) > 0.8


def test_the_same_pictures_in_another_array_are_the_same(digits: Digits) -> None:
    X, y = digits
    wanted = probe().fit(X[:300], y[:300]).predict_proba(X[300:])
    colour = np.repeat(X[..., None], 3, 3)
    loaded = load_digits().data[:400]
    for how, given in (
        ({}, colour),
        ({"image_shape": (8, 8)}, X.reshape(400, 64)),
        ({"image_shape": (8, 8, 3)}, colour.reshape(400, 192)),
        ({"image_shape": (8, 8), "pixel_range": (0, 16)}, loaded),
        ({"image_shape": "square", "pixel_range": "fit"}, loaded),
    ):
        assert (probe(**how).fit(given[:300], y[:300]).predict_proba(given[300:]) == wanted).all()


def test_pictures_need_not_be_square_nor_of_the_size_in_fit(digits: Digits) -> None:
    X, y = digits
    found = probe().fit(X[:200, :, :6], y[:200])
    assert found.predict(X[200:210, :, 1:]).shape == (10,)
    assert found.score(X[:200, :, :6], y[:200]) > 0.8


def test_a_row_does_not_depend_on_its_neighbours(digits: Digits) -> None:
    X, y = digits
    found = probe().fit(X[:100], y[:100])
    together = found.decision_function(X[100:140])
    assert (together == np.concatenate([found.decision_function(X[i : i + 1]) for i in range(100, 140)])).all()


def test_pictures_keep_their_order_over_blocks(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = digits
    found = probe().fit(X[:100], y[:100])
    wanted = found.predict_proba(X[100:150])
    assert wanted.dtype == np.float64
    monkeypatch.setattr(classifier, "BLOCK", 16)
    assert (found.predict_proba(X[100:150]) == wanted).all()


def test_a_second_fit_forgets_the_first(digits: Digits) -> None:
    X, y = digits
    again = probe(pixel_range="fit").fit(X[:100] // 3, np.where(y[:100] == "digit 0", "zero", "another"))
    again.fit(X[:200], y[:200])
    fresh = probe(pixel_range="fit").fit(X[:200], y[:200])
    assert again.classes_.tolist() == fresh.classes_.tolist()
    assert (again.predict_proba(X[200:250]) == fresh.predict_proba(X[200:250])).all()


def test_random_state_is_a_seed_or_draws_one(digits: Digits) -> None:
    X, y = digits
    drawn = np.random.RandomState(3)
    wanted = [7, *np.random.RandomState(3).randint(2**31 - 1, size=2).tolist()]
    seeds = [probe(random_state=state, val=0).fit(X[:60], y[:60]).model_.card.seed for state in (7, drawn, drawn)]
    assert seeds == wanted


def test_joblib_and_the_cache_on_disk(digits: Digits, tmp_path: Any) -> None:
    X, y = digits
    found = probe(cache=tmp_path / "cache").fit(X[:100], y[:100])
    assert any((tmp_path / "cache").rglob("*.*"))
    joblib.dump(found, tmp_path / "model.joblib")
    assert (joblib.load(tmp_path / "model.joblib").predict_proba(X[100:]) == found.predict_proba(X[100:])).all()


def test_copies_pickles_and_folders_say_the_same(digits: Digits, tmp_path: Any) -> None:
    X, y = digits
    found = probe(class_weight="balanced").fit(X[:100], y[:100])
    wanted = found.predict_proba(X[100:])
    assert (pickle.loads(pickle.dumps(found)).predict_proba(X[100:]) == wanted).all()
    again = clone(found)
    with pytest.raises(NotFittedError):
        again.predict(X[:1])
    assert (again.fit(X[:100], y[:100]).predict_proba(X[100:]) == wanted).all()
    found.model_.save(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").hash == found.model_.hash
    assert found.model_.card.data["weights"] == "balanced"


def test_searches_and_pipelines_work(digits: Digits) -> None:
    X, y = digits
    grid = {"settings": [{"l2": 100.0}, {"l2": 0.01}], "strategy": ["linear-probe"]}
    search = GridSearchCV(probe(), grid, cv=2).fit(X[:200], y[:200])
    assert search.best_params_["settings"] == {"l2": 0.01}
    assert search.best_estimator_.model_.card.settings["l2"] == 0.01
    inverted = make_pipeline(FunctionTransformer(lambda given: 255 - given), probe(settings={"l2": 0.01}))
    assert cross_val_score(inverted, X[:200], y[:200], cv=2).mean() > 0.7


def test_a_source_may_be_a_checkpoint(digits: Digits) -> None:
    X, y = digits
    wanted = probe().fit(X[:100], y[:100]).predict_proba(X[100:])
    given = RobustTransferClassifier(make_source(threat="linf:8/255"), random_state=0)
    assert (clone(given).fit(X[:100], y[:100]).predict_proba(X[100:]) == wanted).all()


def test_strategies_that_train_work_too(digits: Digits) -> None:
    X, y = digits
    quick = {"epochs": 1, "l2": 0.1}
    for name in ("fine-tune", "lwf"):
        found = probe(strategy=name, settings=quick).fit(X[:150], y[:150])
        assert found.model_.card.method == f"transfer:{name}"
        assert found.score(X[:150], y[:150]) > 0.7
    with pytest.raises(ConfigError, match="give them to the strategy itself"):
        probe(strategy=LinearProbe(), settings=quick).fit(X[:20], y[:20])


def test_a_weight_counts_as_so_many_pictures(digits: Digits) -> None:
    """Val is the same, too: whether a picture is val depends on its content alone."""
    X, y = digits
    times = np.arange(300) % 4
    weighted = probe().fit(X[:300], y[:300], sample_weight=times)
    repeated = probe().fit(np.repeat(X[:300], times, 0), np.repeat(y[:300], times))
    assert weighted.predict_proba(X[300:]) == pytest.approx(repeated.predict_proba(X[300:]), abs=1e-3)
    ours, theirs = (model.model_.card for model in (weighted, repeated))
    assert (ours.criterion, theirs.criterion) == tuple(
        f"best {w}val log-loss over the L2 path" for w in ("weighted ", "")
    )
    for one, other in zip(ours.metrics["path"], theirs.metrics["path"], strict=True):
        assert (one["val_loss"], one["val_accuracy"]) == pytest.approx(
            (other["val_loss"], other["val_accuracy"]), abs=1e-3
        )
    plain = probe().fit(X[:300], y[:300])
    assert np.abs(plain.predict_proba(X[300:]) - repeated.predict_proba(X[300:])).max() > 0.05
    assert weighted.model_.card.data["weights"].startswith("given (")
    for wrong, said in ((np.full(300, -1.0), "negative"), (np.ones(4), "shape"), (np.zeros(300), "weight zero")):
        with pytest.raises(ValueError, match=said):
            probe().fit(X[:300], y[:300], sample_weight=wrong)


def test_weights_of_classes_and_of_pictures_multiply(digits: Digits) -> None:
    X, y = digits
    each = {f"digit {i}": 1.0 + (i == 3) for i in range(10)}
    weights = np.arange(1, 301) % 3 + 0.5
    one = probe(class_weight=each).fit(X[:300], y[:300], sample_weight=weights)
    other = probe().fit(X[:300], y[:300], sample_weight=weights * (1 + (y[:300] == "digit 3")))
    assert one.predict_proba(X[300:]) == pytest.approx(other.predict_proba(X[300:]), abs=1e-9)


def test_rare_classes_gain_by_weights(digits: Digits) -> None:
    X, y = digits
    rare = np.isin(y[:300], [f"digit {i}" for i in range(5)])
    kept = np.flatnonzero(~rare | (np.cumsum(rare) % 10 == 0))
    plain, balanced = (probe(class_weight=how).fit(X[kept], y[kept]) for how in (None, "balanced"))
    recalls = [balanced_accuracy_score(y[300:], model.predict(X[300:])) for model in (plain, balanced)]
    assert recalls[1] > recalls[0] + 0.02


def test_robust_score_is_the_evaluations(digits: Digits) -> None:
    X, y = digits
    found = probe().fit(X[:200], y[:200])
    some = X[200:260], y[200:260]
    clean = found.score(*some)
    assert found.robust_score(*some, threat="linf:0", attack="fgsm") == clean
    scores = [found.robust_score(*some, threat=f"linf:{eps}/255", attack="pgd-3") for eps in (4, 16, 64)]
    assert clean > scores[0] > scores[1] > scores[2]
    told = found.evaluate(*some, attack="pgd-3", red_flag_examples=0)
    assert told.threat == "linf:8/255"  # the source's
    images = np.repeat(some[0][:, None], 3, 1)
    split = Split.in_memory(images, [int(label[-1]) for label in some[1]], found.model_.card.class_names)
    ours = evaluate(found.model_, split, attack="pgd-3", red_flag_examples=0, run=Run(quiet=True))
    pd.testing.assert_frame_equal(told.outcomes, ours.outcomes)
    with pytest.raises(ValueError, match="labels that were not learned"):
        found.robust_score(X[:2], ["digit 1", "eleven"])


def test_one_class_is_refused(digits: Digits) -> None:
    X, _ = digits
    with pytest.raises(ValueError, match="one class only"):
        probe().fit(X[:4], np.array(["a", "b", "b", "b"]), sample_weight=[0, 1, 1, 1])


def test_the_package_is_imported_as_fast_as_ever() -> None:
    heavy = "{'sklearn', 'torch'} & set(sys.modules)"
    script = f"import sys, robust_transfer; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", script], check=True)
