"""Gallery: which images, in which order, with which verdicts, and how large their pictures are."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_helpers import network, outcomes

from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import load_task, to_pixels
from robust_transfer.evaluation import evaluate
from robust_transfer.report.gather import Entry, gather
from robust_transfer.report.pictures import MOST, ROOM, gallery, picture_uri, ranked, spread
from robust_transfer.run import Run
from robust_transfer.strategies import LinearProbe

QUIET = Run(quiet=True, precision="float32")


@pytest.fixture(scope="module")
def probe() -> Checkpoint:
    """A probe on random features: right on some digits."""
    return LinearProbe(l2=0.1)(network(threat="linf:8/255"), load_task("builtin:digits", shots=20), run=QUIET)


def evaluated(probe: Checkpoint, out: Path, *, keep: bool) -> Entry:
    probe.save(out / "net")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["robust-transfer", "evaluate", str(out / "net"), "--data", "builtin:digits"])
        evaluate(
            probe, load_task("builtin:digits").test, threat="linf:0.1", attack="pgd-5", examples=30,
            run=Run(out=out / "ev", quiet=True, precision="float32"), keep_deltas=keep, smallest_eps=keep,
            red_flag_examples=0, transfer_attack_examples=0,
        )  # fmt: skip
    [entry] = gather([out])
    return entry


def test_kept_images_are_shown_with_what_the_network_says_of_them(probe: Checkpoint, tmp_path: Path) -> None:
    entry = evaluated(probe, tmp_path, keep=True)
    assert entry.evaluation is not None
    table = entry.evaluation.outcomes.set_index("index")
    found = gallery(entry, data=None, most=24, run=QUIET)
    assert found.why is None
    assert len(found.pictures) == 24
    smallest = [picture.smallest for picture in found.pictures]
    assert smallest == sorted(smallest, key=lambda s: -1.0 if s is None else s)
    test = load_task("builtin:digits").test.prepared(probe.preprocessing)
    place = {number: row for row, number in enumerate(test.ids.tolist())}
    for picture in found.pictures:
        row = table.loc[picture.number]
        assert picture.true == str(row["label"])
        assert picture.before.name == str(row["clean_prediction"])
        assert picture.after.right == (row["broken_by"] == "")
        x = to_pixels(test.subset(torch.tensor([place[picture.number]])).images())
        assert decoded(picture.clean).shape == (8, 8, 3)
        assert np.array_equal(decoded(picture.clean), (x[0] * 255).round().byte().permute(1, 2, 0).numpy())
        with torch.no_grad():
            sure = probe.classifier.eval()(x).softmax(1).max()
        assert picture.before.confidence == pytest.approx(float(sure), abs=1e-4)
        largest = np.abs(decoded(picture.attacked).astype(int) - decoded(picture.clean)).max()
        assert largest <= 0.1 * 255 + 1
        assert (largest > 0) == picture.attacked_at_all == picture.before.right
    assert any("the evaluation kept" in note for note in found.notes)


def test_without_kept_images_a_cheap_attack_is_made_and_said(probe: Checkpoint, tmp_path: Path) -> None:
    found = gallery(evaluated(probe, tmp_path, keep=False), data=None, most=10, run=QUIET)
    assert len(found.pictures) == 10
    assert any("attacked for this page by pgd-10" in note for note in found.notes)
    assert any(picture.before.right and not picture.after.right for picture in found.pictures)
    assert all(picture.smallest is None for picture in found.pictures)


def test_without_images_the_reason_is_said(probe: Checkpoint, tmp_path: Path) -> None:
    entry = evaluated(probe, tmp_path, keep=False)
    found = gallery(entry, data=str(tmp_path / "nothing"), most=10, run=QUIET)
    assert found.pictures == ()
    assert found.why is not None
    assert found.why.startswith("There are no pictures: ")


def test_order_without_smallest_eps_is_by_stage_and_margin() -> None:
    table = outcomes(60, smallest=False)
    rows, told = ranked(table)
    fates = [table["broken_by"][row] for row in rows]
    assert fates == sorted(fates, key=["clean", "pgd-20", ""].index)
    standing = [table["margin"][row] for row in rows if table["broken_by"][row] == ""]
    assert standing == sorted(standing, reverse=True)
    assert "--smallest-eps" in told


def test_a_few_are_taken_evenly() -> None:
    assert spread(range(100), 4) == [0, 33, 66, 99]
    assert spread(range(3), 24) == [0, 1, 2]
    assert spread(range(9), 1) == [0]


def test_large_noise_fits_into_its_room() -> None:
    """The hardest case: 24 images of 224 pixels of noise, three pictures each."""
    noise = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    room = ROOM // (3 * MOST)
    uri = picture_uri(noise.round(), room)
    assert len(uri) <= room
    assert uri.startswith("data:image/webp;base64,")


def decoded(uri: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"))
