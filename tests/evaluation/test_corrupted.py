"""Accuracy under corruptions: counts that are known, the interval of their mean, the record, and its place in an evaluation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_helpers import QUIET, Brightness
from torch import Tensor

from robust_transfer.corruptions import NAMES, SEVERITIES
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation import Evaluation, corrupted, evaluate, load_evaluation, measurements
from robust_transfer.statistics.intervals import Z, wilson

VALUES = torch.arange(40, 216, 5)
N = len(VALUES)


@pytest.fixture(scope="module")
def split() -> Split:
    """Grey images, darkest first."""
    images = VALUES.byte().view(-1, 1, 1, 1).repeat(1, 3, 32, 32)
    return Split.in_memory(images, (VALUES > 127.5).long(), ("dark", "bright"), ids=torch.arange(N) + 7)


def measured(split: Split, **more: object) -> Evaluation:
    asked = {"threat": "linf:1/255", "attack": "fgsm", "red_flag_examples": 0, "run": QUIET, "corruptions": True}
    return evaluate(Brightness(), split, **{**asked, **more})  # type: ignore[arg-type]


def test_grey_images_under_brightness_and_contrast_flip_where_they_must(split: Split) -> None:
    """A grey of value v becomes v + 255 c; contrast and blur leave it as it is."""
    pytest.importorskip("imagecorruptions", reason="an extra")
    found = measured(split).corrupted
    assert found is not None
    assert (found.n, found.size, found.passes, tuple(found.kinds)) == (N, 32, 75 * N, NAMES)
    brighter = found.kinds["brightness"].severities
    for share, c in zip(brighter, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True):
        right = ((VALUES / 255 + c > 0.5) == (VALUES > 127.5)).sum()
        assert share == wilson(int(right), N)
    assert found.kinds["contrast"].severities == [wilson(N, N)] * 5
    assert found.kinds["pixelate"].severities == [wilson(N, N)] * 5
    assert "brightness" in str(measured(split))


def test_a_cache_makes_them_once_for_all_networks_and_changes_no_figure(
    split: Split, known: list[tuple[str, int, int]], tmp_path: Path
) -> None:
    plain, made = measured(split).corrupted, len(known)
    cached = [measured(split, run=replace(QUIET, cache=tmp_path, seed=seed)).corrupted for seed in (0, 0, 1)]
    assert made == len(NAMES) * len(SEVERITIES)
    assert len(known) == 3 * made, "once without a cache, once for each seed"
    assert plain is not None
    for one in cached:
        assert one is not None
        assert one.kinds == plain.kinds


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """In place of the package: snow adds 20 values a severity, the others change nothing. What was asked for."""
    asked: list[tuple[str, int, int]] = []

    def made(images: Tensor, ids: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
        assert torch.equal(ids, torch.searchsorted(VALUES, images[:, 0, 0, 0].long()) + 7)
        asked.append((name, severity, seed))
        return (images.int() + (20 * severity if name == "snow" else 0)).clamp_max(255).byte()

    monkeypatch.setattr(corrupted, "corrupted", made)
    monkeypatch.setattr("robust_transfer.corruptions.library", lambda: None)
    return asked


def test_every_count_and_both_means_are_exact(
    split: Split, known: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = measured(split, run=replace(QUIET, seed=3))
    under = found.corrupted
    assert under is not None
    assert known == [(name, severity, 3) for name in NAMES for severity in SEVERITIES]
    right = [int(((VALUES + 20 * s > 127.5) == (VALUES > 127.5)).sum()) for s in SEVERITIES]
    assert len(set(right)) == 5
    assert under.kinds["snow"].severities == [wilson(count, N) for count in right]
    assert under.kinds["fog"].mean == wilson(N, N)
    mean = sum(right) / (5 * N)
    share = under.kinds["snow"].mean
    assert share.n == N
    assert share.value == pytest.approx(mean)
    for end in (share.low, share.high):  # the equation of Wilson's ends, for the mean of n images
        assert abs(mean - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / N), abs=1e-9)
    assert under.accuracy.value == pytest.approx((14 + mean) / 15)
    assert found.passes == measured(split, corruptions=False).passes + 75 * N
    monkeypatch.setattr(corrupted, "BATCH", 7)
    again = measured(split, run=replace(QUIET, seed=3)).corrupted
    assert again is not None
    assert replace(again, seconds=0.0) == replace(under, seconds=0.0)


@pytest.mark.usefixtures("known")
def test_it_is_kept_read_and_added_to_what_is_there(split: Split, tmp_path: Path) -> None:
    run = replace(QUIET, out=tmp_path / "run")
    assert measured(split, run=run, corruptions=False).corrupted is None
    found = measured(split, run=replace(run, resume=True))
    assert found.corrupted is not None
    loaded = load_evaluation(tmp_path / "run")
    assert loaded.corrupted == found.corrupted
    assert str(loaded) == str(found)
    assert loaded.headline_figures()["corrupted_accuracy"] == found.corrupted.accuracy.value
    text = str(loaded)
    for words in (
        f"corrupted        {found.corrupted.accuracy}",
        "JPEG compression",
        "no mCE",
        "CIFAR-10-C has milder",
    ):
        assert words in text
    again = measured(split, run=replace(run, resume=True))
    assert again.to_dict() == found.to_dict()


@pytest.mark.usefixtures("known")
def test_what_would_take_too_long_to_make_is_left_out(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    for each, late in ((1e-6, False), (1e3, True)):
        monkeypatch.setattr(measurements, "seconds_each", lambda image, each=each: each)
        found = measured(split, time_limit=60.0)
        assert (found.corrupted is None, found.untested) == (late, ["the corruptions: for want of time"] * late)


def test_what_cannot_be_corrupted_is_refused_before_an_attack(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robust_transfer.evaluation.evaluator.attack_split", None)
    small = Split.in_memory(split.images()[:, :, :16, :16], split.labels, split.class_names)
    monkeypatch.setattr("robust_transfer.corruptions.library", lambda: None)
    with pytest.raises(DataError, match="the network reads 16 x 16"):
        measured(small)
    monkeypatch.undo()
    monkeypatch.setattr("robust_transfer.evaluation.evaluator.attack_split", None)
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(ConfigError, match="corruptions"):
        measured(split)
