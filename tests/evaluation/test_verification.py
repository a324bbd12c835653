"""A claim is scored again from what was kept: confirmed where it holds, refused where anything was changed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from attack_helpers import L2, LINF, Batch, first
from helpers import QUIET, folder_of, make_classifier
from torch import nn

from robust_transfer.attacks import PGD, Attack
from robust_transfer.data import Split
from robust_transfer.errors import ConfigError, DataError
from robust_transfer.evaluation import evaluate
from robust_transfer.evaluation.deltas import DELTAS, pack, unpack
from robust_transfer.evaluation.verification import SCORED_ALONE, verify
from robust_transfer.threat import Threat

NAMES = tuple(str(i) for i in range(10))


def as_split(batch: Batch) -> Split:
    x, labels, _ = batch
    return Split.in_memory((x * 255).round().byte(), labels, NAMES, ids=torch.arange(len(x)) + 7)


@pytest.fixture(scope="module")
def split(batch: Batch) -> Split:
    return as_split(batch)


@pytest.fixture(scope="module", params=["linf:0.15", "l2:0.8"])
def claim(
    request: pytest.FixtureRequest, network: nn.Module, split: Split, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("claim") / "run"
    run = dataclasses.replace(QUIET, out=out)
    found = evaluate(
        network,
        split,
        threat=request.param,
        attack="pgd-10",
        run=run,
        keep_deltas=True,
        red_flag_examples=0,
        batch_size=100,
    )
    assert 0.1 < found.robust_accuracy.value < found.clean_accuracy.value - 0.1
    return out


def changed(claim: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(claim, tmp_path / "copy"))


def retold(folder: Path, count: int, before: str, after: str, sign: int) -> None:
    """The first ``count`` images that were ``before`` are said to be ``after``, and the accuracy to fit."""
    table = pd.read_parquet(folder / "outcomes.parquet")
    table.loc[table.index[table["broken_by"] == before][:count], "broken_by"] = after
    table.to_parquet(folder / "outcomes.parquet", index=False)
    summary = json.loads((folder / "evaluation.json").read_text())
    summary["robust_accuracy"]["value"] += sign * count / len(table)
    (folder / "evaluation.json").write_text(json.dumps(summary))


def test_images_that_somebody_picked_are_no_claim(
    claim: Path, tmp_path: Path, network: nn.Module, split: Split
) -> None:
    """The broken ones left out, and everything made to fit."""
    folder = changed(claim, tmp_path)
    table = pd.read_parquet(folder / "outcomes.parquet")
    kept = table[(table["broken_by"] == "").to_numpy() | (table.index % 2 == 0)].reset_index(drop=True)
    kept.to_parquet(folder / "outcomes.parquet", index=False)
    summary = json.loads((folder / "evaluation.json").read_text())
    places = {number: row for row, number in enumerate(split.ids.tolist())}
    summary["data_hash"] = split.subset(torch.tensor([places[i] for i in kept["index"]])).hash
    for name, right in (("clean_accuracy", kept["broken_by"] != "clean"), ("robust_accuracy", kept["broken_by"] == "")):
        summary[name] = {**summary[name], "value": float(right.mean()), "n": len(kept)}
    (folder / "evaluation.json").write_text(json.dumps(summary))
    found = verify(folder, network, split, run=QUIET)
    assert [problem for problem in found.problems if "they may be hand-picked" in problem]
    assert f"{len(kept)} of {len(split)} images" in str(found)


def test_a_delta_that_is_no_number_is_refused(claim: Path, tmp_path: Path, network: nn.Module, split: Split) -> None:
    folder = changed(claim, tmp_path)
    deltas = pd.read_parquet(folder / DELTAS)
    deltas["scale"] = deltas["scale"].where(deltas.index != 0, 0.0)
    deltas.at[0, "delta"] = np.full((3, 8, 8), np.nan, np.float32).tobytes()
    deltas.to_parquet(folder / DELTAS, index=False)
    with pytest.raises(DataError, match="is no number"):
        verify(folder, network, split, run=QUIET)


def test_a_true_claim_stands(claim: Path, network: nn.Module, split: Split) -> None:
    claimed = json.loads((claim / "evaluation.json").read_text())
    found = verify(claim, network, split, run=QUIET)
    assert found.problems == []
    assert found.n == len(split)
    assert found.clean_accuracy.value == claimed["clean_accuracy"]["value"]
    assert found.robust_accuracy.value == claimed["robust_accuracy"]["value"]
    broken = pd.read_parquet(claim / "outcomes.parquet")["broken_by"]
    assert found.confirmed == (broken == "pgd-10").sum()
    assert found.alone == min(SCORED_ALONE, found.confirmed)
    assert "the claim stands" in str(found)
    assert not list((claim).glob("state*"))
    per_image = (claim / DELTAS).stat().st_size / len(split)
    assert per_image < 3 * 8 * 8 * 1.5  # an int8 a value, compressed, and a little besides


def test_images_in_another_order_and_more_of_them_do_not_matter(claim: Path, network: nn.Module, batch: Batch) -> None:
    x, labels, _ = batch
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    more = Split.in_memory((x[order] * 255).round().byte(), labels[order], NAMES, ids=order + 7)
    assert verify(claim, network, more, run=QUIET).problems == []


def test_a_break_that_was_made_up_is_found(claim: Path, network: nn.Module, split: Split, tmp_path: Path) -> None:
    folder = changed(claim, tmp_path)
    retold(folder, 2, "", "pgd-10", -1)
    found = verify(folder, network, split, run=QUIET)
    assert any("2 images were counted as broken, and what was kept does not break them" in p for p in found.problems)
    assert any("robust accuracy was claimed" in p for p in found.problems)
    assert "does not stand" in str(found)


def test_a_break_that_was_kept_quiet_is_found(claim: Path, network: nn.Module, split: Split, tmp_path: Path) -> None:
    folder = changed(claim, tmp_path)
    retold(folder, 3, "pgd-10", "", 1)
    found = verify(folder, network, split, run=QUIET)
    assert any("3 images were counted as standing, and what was kept breaks them" in p for p in found.problems)


def test_a_delta_that_is_too_large_or_missing_is_found(
    claim: Path, network: nn.Module, split: Split, tmp_path: Path
) -> None:
    folder = changed(claim, tmp_path)
    deltas = pd.read_parquet(folder / DELTAS)
    larger = deltas.copy()
    larger["scale"] = larger["scale"].where(larger.index != 3, larger["scale"] * 1.5)
    larger.to_parquet(folder / DELTAS, index=False)
    with pytest.raises(DataError, match=f"the delta of image {larger['index'][3]} is larger than"):
        verify(folder, network, split, run=QUIET)
    deltas[1:].to_parquet(folder / DELTAS, index=False)
    assert any("have no kept image" in problem for problem in verify(folder, network, split, run=QUIET).problems)
    (folder / DELTAS).write_bytes(b"nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        verify(folder, network, split, run=QUIET)
    (folder / DELTAS).unlink()
    with pytest.raises(DataError, match="evaluate with --keep-deltas"):
        verify(folder, network, split, run=QUIET)


def test_another_model_or_other_images_are_refused(claim: Path, network: nn.Module, split: Split, batch: Batch) -> None:
    with pytest.raises(DataError, match="of another model"):
        verify(claim, make_classifier(), split, run=QUIET)
    with pytest.raises(DataError, match="missing from this split"):
        verify(claim, network, split.subset(torch.arange(20)), run=QUIET)
    x, labels, _ = batch
    with pytest.raises(DataError, match="of other images or labels"):
        verify(claim, network, as_split((1 - x, labels, labels)), run=QUIET)


def test_deltas_of_an_evaluation_that_was_killed_are_all_there(
    network: nn.Module, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {
        "threat": "linf:0.15",
        "attack": "pgd-3",
        "keep_deltas": True,
        "red_flag_examples": 0,
        "batch_size": 100,
    }
    whole, cut = (dataclasses.replace(QUIET, out=tmp_path / name) for name in ("whole", "cut"))
    evaluate(network, split, run=whole, **words)
    real, calls = Attack.__call__, []

    def killed(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Attack, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(network, split, run=cut, **words)
    assert len(list((folder_of(cut) / "state").glob("deltas-*.parquet"))) == 2
    evaluate(network, split, run=dataclasses.replace(cut, resume=True), **words)
    pd.testing.assert_frame_equal(pd.read_parquet(folder_of(cut) / DELTAS), pd.read_parquet(folder_of(whole) / DELTAS))
    assert not (folder_of(cut) / "state").exists()
    evaluate(network, split, run=dataclasses.replace(cut, overwrite=True), **{**words, "keep_deltas": False})
    assert not (folder_of(cut) / DELTAS).exists()


def test_deltas_need_a_folder(network: nn.Module, split: Split) -> None:
    with pytest.raises(ConfigError, match="give an output folder"):
        evaluate(network, split, keep_deltas=True, run=QUIET)


@pytest.mark.parametrize("threat", [LINF, L2, Threat(norm="linf", eps=1e-4)], ids=str)
def test_what_comes_back_has_the_same_verdict_and_nearly_the_same_pixels(
    network: nn.Module, batch: Batch, threat: Threat
) -> None:
    x, labels, ids = first(batch, 60)
    result = PGD(steps=5)(network, x, labels, ids, threat)
    rows = pack(network, x, labels, ids, result, threat)
    right = result.clean_prediction == labels
    assert rows["index"].tolist() == ids[right].tolist()
    back = unpack(rows, x[right], threat)
    assert (threat.size(back - x[right]) <= threat.eps * (1 + 1e-5) + 1e-7).all()
    assert (back - result.adversarial[right]).abs().max() <= threat.eps / 127
    margins = (network(back).argmax(1) != labels[right]).tolist()
    assert margins == result.broken[right].tolist()


def test_a_verdict_that_rounding_would_change_is_kept_exactly(batch: Batch) -> None:
    """Broken only by this very image: int8 does not hit it, float32 does."""
    x, labels, ids = first(batch, 4)
    exact = x + 0.1 + 1e-5 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    exact = LINF.project(exact, x)
    needle = Needle(exact)
    result = PGD(steps=2)(needle, x, labels * 0, ids, LINF)
    result = dataclasses.replace(result, adversarial=exact, broken=torch.ones(4, dtype=torch.bool))
    rows = pack(needle, x, labels * 0, ids, result, LINF)
    assert (rows["scale"] == 0).all()
    assert np.frombuffer(rows["delta"][0], np.float32).size == x[0].numel()
    assert torch.equal(needle(unpack(rows, x, LINF)).argmax(1), torch.ones(4).long())


class Needle(nn.Module):
    """Says class 1 for these images, to six digits, and class 0 for all others."""

    images: torch.Tensor

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("images", images)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = torch.cdist(x.flatten(1), self.images.flatten(1), compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        hit = (near < 1e-5).float()
        return torch.stack([1 - hit, hit], 1)
