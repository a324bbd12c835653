"""Images that were trained on: random labels that a network has learnt by heart come with a flag wherever they turn up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import QUIET, make_source
from images import encoded, picture, write_parquet
from PIL import Image

import robust_transfer as rt
from robust_transfer.checkpoint import Checkpoint
from robust_transfer.data import Split, Task, load_task
from robust_transfer.errors import CheckpointError, DataError
from robust_transfer.evaluation import Evaluation
from robust_transfer.evaluation.own_val import own_val
from robust_transfer.trained_on import FINGERPRINTS

CLASSES = ("a", "b")
N = 60  # images a class
Name = Callable[[int], str]


def noise(
    root: Path, numbers: range, size: int = 32, save: Callable[[int, int], tuple[str, bytes]] | None = None
) -> Path:
    """``root/<class>/...``: random pixels, so that nothing but the images themselves can tell the classes apart."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in numbers:
            file, content = save(label, i) if save else (f"{i:03d}.png", encoded(picture(label, i, size)))
            (root / name / file).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise(tmp_path_factory.mktemp("noise") / "data", range(N))


@pytest.fixture(scope="module")
def model(data: Path) -> Checkpoint:
    return rt.transfer(make_source(), load_task(data), rt.LinearProbe(l2=1e-5), run=QUIET)


def judged(model: Checkpoint, split: Split) -> Evaluation:
    return rt.evaluate(
        model, split, threat="linf:0", attack="fgsm", transfer_attack_examples=0, red_flag_examples=0, run=QUIET
    )


def seen_by(found: Evaluation, by: str = "the model", how: str = "trained on") -> int:
    return next((each.images for each in found.seen if (each.by, each.how) == (by, how)), 0)


def test_what_was_held_out_is_at_chance_without_a_flag(data: Path, model: Checkpoint) -> None:
    found = judged(model, load_task(data).test)
    assert found.seen == []
    assert found.clean_accuracy.low < 0.5 < found.clean_accuracy.high
    assert found.split == "test"


def test_the_images_of_training_are_counted_with_figures_without_them(data: Path, model: Checkpoint) -> None:
    task = load_task(data)
    mixed = task.train.subset(torch.arange(20))
    both = Split.in_memory(
        torch.cat([mixed.images(), task.test.images()]), torch.cat([mixed.labels, task.test.labels]), CLASSES
    )
    found = judged(model, both)
    [seen] = found.seen
    assert (seen.by, seen.how, seen.images, seen.exact, seen.n) == ("the model", "trained on", 20, 20, len(both))
    alone = judged(model, task.test)
    assert seen.clean_accuracy == alone.clean_accuracy
    assert seen.robust_accuracy == alone.robust_accuracy
    share = f"clean {100 * found.clean_accuracy.value:.1f} %, without them {100 * alone.clean_accuracy.value:.1f} %"
    assert f"20 of {len(both)} unknown images were trained on (by the model): {share}" in found.flags[0]
    assert found.flags[0] in str(found)


def jpeg(label: int, i: int) -> tuple[str, bytes]:
    return f"x{i}.jpg", encoded(picture(label, i, 32), "JPEG", quality=80)


def larger(label: int, i: int) -> tuple[str, bytes]:
    image = Image.fromarray(picture(label, i, 32)).resize((64, 64), Image.Resampling.BICUBIC)
    import numpy as np

    return f"{i}.bmp", encoded(np.asarray(image), "BMP")


def parquet_of(root: Path) -> Path:
    rows = [(label, i) for i in range(N) for label in range(2)]
    names = list(reversed(CLASSES))
    contents = [encoded(picture(label, i, 32), "WEBP", quality=90) for label, i in rows]
    return write_parquet(root / "p.parquet", [1 - label for label, _ in rows], names=names, contents=contents)


RETOLD: dict[str, Callable[[Path, Path], Split]] = {
    "its own train split": lambda data, new: load_task(data).train,
    "another seed and shots": lambda data, new: load_task(data, shots=20, seed=5).train,
    "JPEG": lambda data, new: load_task(noise(new, range(N), save=jpeg), seed=3).test,
    "twice as large": lambda data, new: load_task(noise(new, range(N), save=larger)).test,
    "parquet, WebP, other order": lambda data, new: load_task(parquet_of(new)).test,
    "more JPEGs, as a test folder": lambda data, new: (
        load_task(noise(noise(new / "test", range(N + 20), save=jpeg).parent / "train", range(200, 204)).parent).test
    ),
}


@pytest.mark.parametrize("way", RETOLD)
def test_random_labels_are_never_above_chance_unflagged(
    way: str, data: Path, model: Checkpoint, tmp_path: Path
) -> None:
    found = judged(model, RETOLD[way](data, tmp_path / "new"))
    seen = seen_by(found)
    assert seen >= 5
    assert any(
        f"{seen} of {found.clean_accuracy.n} " in flag and "trained on (by the model)" in flag for flag in found.flags
    )
    left = found.seen[0].clean_accuracy
    assert left is None or left.low < 0.5  # and without them it is chance
    if left is None:
        assert "nothing is left" in found.flags[0]


def test_copies_of_every_image_in_one_folder(tmp_path: Path) -> None:
    folder = noise(noise(tmp_path / "data", range(30)), range(30), save=jpeg)
    task = load_task(folder)
    result = rt.transfer(make_source(), task, rt.LinearProbe(l2=1e-5), run=QUIET)
    found = judged(result, task.test)
    assert any("test images are in train too" in note for note in found.notes)
    assert seen_by(found) > 0
    clean = load_task(folder, duplicates="drop")
    result = rt.transfer(make_source(), clean, rt.LinearProbe(l2=1e-5), run=QUIET)
    assert seen_by(judged(result, clean.test)) == 0


def test_the_source_is_told_from_the_model(data: Path, model: Checkpoint, tmp_path: Path) -> None:
    other = load_task(noise(tmp_path / "other", range(300, 340)))
    result = rt.transfer(model, other, rt.LinearProbe(l2=1e-3), run=dataclasses.replace(QUIET, out=tmp_path / "run"))
    found = judged(rt.load_checkpoint(tmp_path / "run"), load_task(data).train)
    assert (seen_by(found), seen_by(found, "its source")) == (0, len(found.outcomes))
    assert "trained on (by its source)" in found.flags[0]
    assert result.trained_on is not None
    assert [len(level.train) for level in result.trained_on.levels] == [len(other.train), len(load_task(data).train)]
    assert not result.trained_on.complete  # what the first source was trained on, nobody kept
    assert any("by the model's sources" in line for line in found.untested)


def test_what_is_left_was_seen_by_nobody(data: Path, model: Checkpoint, tmp_path: Path) -> None:
    """What the source has learnt by heart does not count as unseen by the model, nor the other way round."""
    new = load_task(noise(tmp_path / "new", range(300, 330)))
    result = rt.transfer(model, new, rt.LinearProbe(l2=1e-3), run=QUIET)
    parts = [new.train, load_task(data).train, load_task(noise(tmp_path / "unseen", range(400, 430))).train]
    mixed = Split.in_memory(
        torch.cat([part.images() for part in parts]), torch.cat([part.labels for part in parts]), CLASSES
    )
    found, alone = judged(result, mixed), judged(result, parts[2])
    assert [(each.by, each.images) for each in found.seen] == [
        ("the model", len(new.train)),
        ("its source", len(parts[1])),
    ]
    for each, flag in zip(found.seen, found.flags, strict=False):
        assert (each.unseen, each.clean_accuracy) == (len(parts[2]), alone.clean_accuracy)
        assert f"without all that were seen {100 * alone.clean_accuracy.value:.1f} %" in flag


def test_a_card_without_fingerprints_leaves_it_untested(data: Path, model: Checkpoint) -> None:
    old = dataclasses.replace(model, trained_on=None)
    found = judged(old, load_task(data).train)
    assert found.seen == []
    assert "whether images were trained on: the card has no fingerprints" in found.untested


def test_the_file_belongs_to_its_card(model: Checkpoint, tmp_path: Path) -> None:
    model.save(tmp_path / "run")
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert model.trained_on is not None
    own = model.trained_on.levels[0]
    assert card["fingerprints"]["levels"] == [{"train": len(own.train), "val": len(own.val)}]
    content = bytearray((tmp_path / "run" / FINGERPRINTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "run" / FINGERPRINTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="not the file that its card describes"):
        rt.load_checkpoint(tmp_path / "run")
    (tmp_path / "run" / FINGERPRINTS).unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        rt.load_checkpoint(tmp_path / "run")


def test_val_is_the_models_own_whatever_the_seed(data: Path, model: Checkpoint, tmp_path: Path) -> None:
    task: Task = load_task(data)
    mine = {image.numpy().tobytes() for image in task.val.at_size(8).images()}
    for seed in (1, 4):
        found = own_val(model, load_task(data, seed=seed))
        assert {image.numpy().tobytes() for image in found.images()} == mine
        assert found.role == "val"
    evaluation = judged(model, own_val(model, task))
    assert seen_by(evaluation, how="chosen by") == len(task.val) > 0
    assert "are of the val split that the model was chosen by" in evaluation.flags[0]
    assert evaluation.split == "val"
    part = noise(tmp_path / "part", range(N // 2))
    some = own_val(model, load_task(part))
    assert 0 < len(some) < len(task.val)
    assert any(f"{len(task.val) - len(some)} of the {len(task.val)} val images" in note for note in some.notes)
    with pytest.raises(DataError, match="none of the"):
        own_val(model, load_task(noise(tmp_path / "others", range(500, 510))))
