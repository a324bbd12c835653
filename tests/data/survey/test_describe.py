"""Survey of data sets whose oddities were put there: each is found, by name, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from images import encoded, picture, write_classes, write_parquet
from PIL import Image

from robust_transfer.data import describe_data, load_task
from robust_transfer.data.survey import describe
from robust_transfer.data.survey.copies import CopyReport
from robust_transfer.data.survey.description import DataDescription, SplitDescription
from robust_transfer.data.survey.look import Looks, look_through
from robust_transfer.errors import ConfigError, DataError


def photo(seed: int, side: int = 64) -> Image.Image:
    """A smooth coloured picture, which survives re-encoding."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Train of 40 cats and 10 dogs, test of 8 and 8; no two are alike."""
    for split, counts in (("train", (40, 10)), ("test", (8, 8))):
        for label, (name, count) in enumerate(zip(("cat", "dog"), counts, strict=True)):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                photo(1000 * label + i + (500 if split == "test" else 0)).save(tmp_path / split / name / f"{i:02d}.png")
    return tmp_path


def test_a_clean_data_set_has_nothing_odd(folder: Path) -> None:
    found = describe_data(folder)
    train = found.splits["train"]
    assert (train.images, train.looked_at, train.classes, train.imbalance) == (50, 50, {"cat": 40, "dog": 10}, 4.0)
    assert (train.sizes, train.modes, train.kinds) == ({"64x64": 50}, {"RGB": 50}, {"PNG": 50})
    assert not train.suspicious
    assert not train.copies.found
    assert not any(pair.copies.found for pair in found.between)
    assert [(pair.one, pair.other) for pair in found.between] == [("test", "train")]
    assert not found.problems
    assert not found.sampled
    assert "2 (largest 4 times the smallest): cat 40, dog 10" in str(found)


def test_copies_within_and_across_are_told_apart_from_conflicts(folder: Path) -> None:
    cats, dogs = folder / "train" / "cat", folder / "train" / "dog"
    shutil.copy(cats / "00.png", cats / "again.png")  # exact, the same label
    shutil.copy(cats / "01.png", dogs / "as-dog.png")  # exact, another label
    Image.open(cats / "02.png").save(dogs / "jpeg.jpg", quality=80)  # re-encoded, another label
    Image.open(cats / "03.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(cats / "mirrored.png")
    shutil.copy(cats / "04.png", folder / "test" / "cat" / "leak.png")
    Image.open(dogs / "05.png").resize((48, 48)).save(folder / "test" / "cat" / "small.png")  # and another label
    found = describe_data(folder)
    own, [across] = found.splits["train"].copies, [pair.copies for pair in found.between]
    assert (own.exact, own.near, own.conflicts) == (2, 4, 2)  # of each two that look alike both are counted
    assert sorted(map(names, own.conflict_examples)) == [{"01.png", "as-dog.png"}, {"02.png", "jpeg.jpg"}]
    assert (across.exact, across.near, across.conflicts) == (1, 1, 1)
    assert [names(pair) for pair in across.conflict_examples] == [{"small.png", "05.png"}]
    assert names(across.examples[0]) == {"leak.png", "04.png"}
    assert not found.splits["test"].copies.found
    assert "2 images of test are in train, too: 1 exactly, 1 by their look" in str(found)
    assert found.splits["train"].kinds == {"PNG": 53, "JPEG": 1}


def names(pair: str) -> set[str]:
    return {Path(each).name for each in pair.split(" = ")}


def test_odd_images_are_found_by_what_is_odd(folder: Path) -> None:
    cats = folder / "train" / "cat"
    Image.new("RGB", (64, 64), (90, 90, 90)).save(cats / "constant.png")
    photo(7001, 12).save(cats / "tiny.png")
    photo(7002).resize((400, 400)).save(cats / "huge.png")
    photo(7003).resize((200, 30)).save(cats / "narrow.png")
    photo(7004).convert("L").save(cats / "grey.png")
    photo(7005).resize((150, 50)).save(cats / "wide.png")  # three times as wide as high, which many are
    (cats / "damaged.png").write_bytes((cats / "00.png").read_bytes()[:200])
    (cats / "text.png").write_text("not a picture")
    found = describe_data(folder)
    odd = found.splits["train"].suspicious
    assert {what: each.count for what, each in odd.items()} == {
        "damaged": 2, "constant": 1, "tiny": 1, "huge": 1, "long and narrow": 1, "grey among colour": 1,
    }  # fmt: skip
    for what, name in (("constant", "constant"), ("tiny", "tiny"), ("huge", "huge"), ("long and narrow", "narrow")):
        assert f"{name}.png" in odd[what].examples[0]
    assert "grey.png, 64x64" in odd["grey among colour"].examples[0]
    assert any("text.png (not an image of a known format)" in each for each in odd["damaged"].examples)
    assert found.problems == ["2 images cannot be decoded: repair them, or remove them from the data"]
    assert found.splits["train"].modes == {"RGB": 55, "L": 1}
    assert (found.splits["train"].width, found.splits["train"].height) != (None, None)
    assert json.loads(json.dumps(found.to_dict()))["splits"]["train"]["suspicious"]["tiny"]["count"] == 1


def test_grey_pictures_among_grey_ones_are_not_odd(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(6):
            photo(i + 100 * (name == "b")).convert("L").save(tmp_path / name / f"{i}.png")
    assert not describe_data(tmp_path).splits["train"].suspicious


def test_of_many_images_a_sample_is_looked_at_and_that_is_said(folder: Path) -> None:
    found = describe_data(folder, examples=33)
    train, test = found.splits["train"], found.splits["test"]
    assert (train.looked_at, test.looked_at) == (25, 8)
    assert train.images == 50
    assert train.classes == {"cat": 40, "dog": 10}  # labels are counted in any case
    assert found.sampled
    assert "50 images, 25 of them looked at" in str(found)
    assert "there may be more" in str(found)
    assert describe_data(folder, examples=33, seed=0).to_dict() == found.to_dict()
    with pytest.raises(ConfigError, match="at least 1"):
        describe_data(folder, examples=0)


def test_what_load_task_would_refuse_is_described_all_the_same(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 3, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 2, "eel": 2})
    found = describe_data(tmp_path)
    assert found.splits["test"].classes == {"cat": 2, "eel": 2}
    assert any("'eel'" in problem for problem in found.problems)
    [across] = [pair.copies for pair in found.between]
    assert across.exact == 4  # picture(1, 0) is a dog in train and an eel in test
    assert across.conflicts == 2
    with pytest.raises(DataError, match="does not exist"):
        describe_data(tmp_path / "none")


def test_what_is_to_become_test_is_said(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", {"cat": 20, "dog": 20})
    told = (
        f"there is no test split: {len(load_task(tmp_path / 'data').test)} images of train are to be set aside as test"
    )
    found = describe_data(tmp_path / "data")
    assert (told in found.notes, found.problems) == (True, [])
    write_classes(tmp_path / "data", {"eel": 1})
    with pytest.raises(DataError) as refused:
        load_task(tmp_path / "data")
    assert describe_data(tmp_path / "data").problems == [str(refused.value)]


def test_classes_of_many_are_shown_from_both_ends() -> None:
    copies = CopyReport(0, 0, 0, [], [])
    counts = {f"c{i:02d}": 100 - i for i in range(30)}
    split = SplitDescription(10, 10, counts, 100 / 71, None, None, {}, {}, {}, copies, {})
    told = str(DataDescription("x", {"train": split}, [], [], []))
    assert "c11 89, ..., c18 82" in told
    assert "c29 71" in told
    assert "c12" not in told


def test_a_picture_is_let_go_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of an image does not grow with it."""
    looks = list[Looks]()

    def noted(*given: Any) -> Looks:
        looks.append(look_through(*given))
        return looks[-1]

    monkeypatch.setattr(describe, "look_through", noted)
    describe_data(folder)
    assert len(looks) == 2
    for look in looks:
        arrays = [value for value in vars(look).values() if isinstance(value, np.ndarray)]
        assert sum(array.nbytes for array in arrays) + look.prints.rows.nbytes < 100 * len(look.places)


def test_encoded_columns_are_looked_through_too(tmp_path: Path) -> None:
    contents = [encoded(picture(0, i)) for i in range(8)]
    write_parquet(
        tmp_path / "train.parquet", [0, 1] * 5, names=("a", "b"), contents=[*contents, contents[0], contents[0]]
    )
    found = describe_data(tmp_path / "train.parquet").splits["train"].copies
    assert (found.exact, found.conflicts) == (2, 1)
    assert "row 9 (from 0) of the train split" in found.conflict_examples[0]
