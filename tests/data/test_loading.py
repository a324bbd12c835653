"""``load_task`` on parquet and image folders, whole: what goes into which split; several tasks of one data set."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_helpers import NAMES, assert_same, balanced, counts, pixels
from images import encoded, picture, write_classes, write_parquet
from PIL import Image

from robust_transfer.data import Dataset, load_task
from robust_transfer.data.decoded import Decoded
from robust_transfer.errors import DataError


class TestParquet:
    def test_images_labels_and_ids_belong_together(self, parquet: Path) -> None:
        task = load_task(parquet)
        assert task.name == "pets"
        assert task.class_names == tuple(NAMES)
        assert (len(task.train) + len(task.val), len(task.test)) == (30, 9)
        assert all(1 <= n <= 3 for n in counts(task.val))
        for part in (task.train, task.val, task.test):
            assert part.size == 8
            for image, label, index in zip(part.images(), part.labels.tolist(), part.ids.tolist(), strict=True):
                assert torch.equal(image, pixels(index))
                assert label == index % 3
        assert set(task.train.ids.tolist()) | set(task.val.ids.tolist()) == set(range(30))

    def test_missing_shards_are_noted_and_work(self, parquet: Path) -> None:
        assert any("only 2 of the 3 train files" in note for note in load_task(parquet).notes)

    @pytest.mark.parametrize(
        "layout", ["data/{}-00000-of-00001.parquet", "{}/0000.parquet", "pets_{}.parquet", "{}.parquet"]
    )
    def test_other_layouts(self, tmp_path: Path, layout: str) -> None:
        for at, (name, n) in enumerate((("train", 12), ("validation", 6), ("test", 9))):
            contents = [encoded(picture(1 + at, i)) for i in range(n)]
            write_parquet(tmp_path / layout.format(name), balanced(n), names=NAMES, contents=contents)
        task = load_task(str(tmp_path))
        assert (len(task.train), len(task.val), len(task.test)) == (12, 6, 9)
        assert task.notes == ()

    def test_files_of_no_split_are_passed_over(self, parquet: Path) -> None:
        write_parquet(parquet / "unsupervised.parquet", [0] * 50, names=NAMES)
        assert len(load_task(parquet, val=0).train) == 30

    def test_a_single_file_is_train(self, tmp_path: Path) -> None:
        task = load_task(write_parquet(tmp_path / "pets.parquet", balanced(30), names=NAMES), val=0)
        assert task.name == "pets"
        assert all(1 <= n <= 5 for n in counts(task.test))
        assert len(task.train) + len(task.test) == 30
        assert not set(task.train.ids.tolist()) & set(task.test.ids.tolist())

    def test_hidden_test_labels_make_validation_the_test_split(self, tmp_path: Path) -> None:
        write_parquet(tmp_path / "train.parquet", balanced(30), names=NAMES)
        write_parquet(tmp_path / "validation.parquet", balanced(6), names=NAMES)
        write_parquet(tmp_path / "test.parquet", [-1] * 8, names=NAMES)
        task = load_task(tmp_path)
        assert counts(task.test) == [2, 2, 2]
        assert len(task.train) + len(task.val) == 30
        assert "hidden" in task.notes[0]

    def test_cifar10_or_a_likeness_of_it(self, tmp_path: Path) -> None:
        file = Path(__file__).parents[2] / "shared" / "data" / "cifar10" / "test.parquet"
        if not file.exists():
            names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
            content = [encoded(picture(0, i, 32), "WEBP", lossless=True) for i in range(100)]
            file = write_parquet(tmp_path / "test.parquet", balanced(100, 10), names=names, contents=content)
        task = load_task(file, shots=5)
        assert task.class_names[:2] == ("airplane", "automobile")
        assert task.train.size == 32
        assert counts(task.train) == [4] * 10


class TestImageFolder:
    def test_splits_in_folders(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "train", {"cat": 5, "dog": 3})
        write_classes(tmp_path / "Val", {"cat": 2, "dog": 2})
        write_classes(tmp_path / "test", {"cat": 1, "dog": 4})
        task = load_task(tmp_path)
        assert task.class_names == ("cat", "dog")
        assert [counts(part) for part in (task.train, task.val, task.test)] == [[5, 3], [2, 2], [1, 4]]
        assert task.train.ids.tolist() == list(range(8))
        for position in range(8):
            label = int(task.train.labels[position])
            assert torch.equal(task.train.images()[position], pixels(position - 5 * label, label))

    def test_without_splits_a_fifth_is_test_whatever_the_seed(self, tmp_path: Path) -> None:
        write_classes(tmp_path / "pets", {"cat": 20, "dog": 10})
        tasks = [load_task(tmp_path / "pets", seed=seed) for seed in range(3)]
        for task in tasks:
            assert all(1 <= n <= most for n, most in zip(counts(task.test), (9, 6), strict=True))
            assert all(1 <= n <= most for n, most in zip(counts(task.val), (6, 4), strict=True))
            ids = Counter(torch.cat([task.train.ids, task.val.ids, task.test.ids]).tolist())
            assert ids == Counter(range(30))
            assert torch.equal(task.test.ids, tasks[0].test.ids)
            assert f"{len(task.test)} images of train are set aside as test" in task.notes[0]
        assert len({tuple(task.val.ids.tolist()) for task in tasks}) > 1

    def test_strays_are_passed_over(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"cat": 4, "dog": 4})
        for stray in (".DS_Store", "cat/Thumbs.db", "cat/notes.txt", "dog/.hidden.png", "README.md"):
            (tmp_path / stray).write_text("not an image")
        (tmp_path / ".cache").mkdir()
        (tmp_path / "__MACOSX").mkdir()
        task = load_task(tmp_path, val=0)
        assert task.class_names == ("cat", "dog")
        assert len(task.train) + len(task.test) == 8

    def test_every_format_and_nested_folders(self, tmp_path: Path) -> None:
        grey = np.full((4, 4, 3), 77, np.uint8)
        formats = {"a.PNG": "PNG", "b.jpg": "JPEG", "c.jpeg": "JPEG", "d.bmp": "BMP", "e.gif": "GIF", "f.webp": "WEBP"}
        formats |= {"g.tif": "TIFF", "in/side/h.tiff": "TIFF", "i.ppm": "PPM", "j.jp2": "JPEG2000"}
        for name, fmt in formats.items():
            for folder in ("cat", "dog"):
                path = tmp_path / "train" / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(grey, fmt))
        write_classes(tmp_path / "test", {"cat": 1, "dog": 1}, size=4)
        images = load_task(tmp_path, val=0).train.images()
        assert images.shape == (20, 3, 4, 4)
        assert int((images.int() - 77).abs().max()) <= 1

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"bus": 5, "train": 5, "test tubes": 5})
        assert load_task(tmp_path).class_names == ("bus", "test tubes", "train")

    def test_images_of_different_sizes_are_read_at_one(self, tmp_path: Path) -> None:
        write_classes(tmp_path, {"cat": 5, "dog": 5})
        Image.fromarray(picture(9, 9)[:5]).save(tmp_path / "cat" / "000.png")
        task = load_task(tmp_path, val=0)
        position = task.train.ids.tolist().index(0) if 0 in task.train.ids.tolist() else None
        part = task.test if position is None else task.train
        assert part.size is None
        expected = np.asarray(Image.fromarray(picture(9, 9)[:5]).resize((6, 6), Image.Resampling.BICUBIC))
        image = part.at_size(6).images()[part.ids.tolist().index(0)]
        np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


class TestSeveralTasksOfOneDataset:
    """They are those that are loaded one by one, but the data is read, and its test images are decoded, once."""

    SETTINGS: tuple[dict[str, Any], ...] = (
        {},
        {"shots": 5, "seed": 1},
        {"shots": 5, "seed": 2},
        {"val": 0.5, "seed": 3},
    )

    @pytest.mark.parametrize("with_test", [True, False])
    def test_they_are_the_same_and_read_once(self, parquet: Path, with_test: bool) -> None:
        if not with_test:
            (parquet / "test-00000-of-00001.parquet").unlink()
        alone = [load_task(parquet, **settings) for settings in self.SETTINGS]
        dataset = Dataset(parquet)
        together = [dataset.task(**self.SETTINGS[0])]
        shutil.rmtree(parquet)
        together += [dataset.task(**settings) for settings in self.SETTINGS[1:]]
        for one, other in zip(together, alone, strict=True):
            assert_same(one, other)
            assert one.notes == other.notes
            assert one.test.reader is together[0].test.reader
            assert not set(one.train.ids.tolist()) & set(one.val.ids.tolist())


@pytest.mark.parametrize("name", ["x" * 300, "", "a\0b"])
def test_paths_that_cannot_be(name: str) -> None:
    with pytest.raises(DataError, match=r"cannot read|does not exist|no data set is named"):
        load_task(name)


def test_a_test_split_alone_can_be_evaluated_on(tmp_path: Path) -> None:
    write_parquet(tmp_path / "pets" / "test.parquet", [0, 2, 2, 0], names=NAMES)
    task = load_task(tmp_path / "pets")
    assert (len(task.train), len(task.val), len(task.test)) == (0, 0, 4)
    assert (task.test.role, task.test.labels.tolist(), task.class_names) == ("test", [0, 2, 2, 0], tuple(NAMES))
    assert task.notes == ("there is no train split: pets can be evaluated on, and not learned from",)
    assert torch.equal(task.test.images()[1], pixels(1))
    write_parquet(tmp_path / "pets" / "validation.parquet", [2, 0], names=NAMES[::-1])
    task = load_task(tmp_path / "pets")
    assert (len(task.train), task.val.labels.tolist(), len(task.test)) == (0, [0, 2], 4)


def test_a_validation_split_alone_is_test(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"cat": 2, "dog": 3})
    task = load_task(tmp_path)
    assert (len(task.train), len(task.val), counts(task.test)) == (0, 0, [2, 3])
    assert "there is no test split: the validation split is used as test" in task.notes


def test_numbers_alone_name_the_classes_of_a_test_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "test.parquet", [7, 3, 7])
    task = load_task(tmp_path)
    assert (task.class_names, task.test.labels.tolist()) == (("3", "7"), [1, 0, 1])


def test_test_images_are_had_without_a_look_at_train(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 4
    data = {"train": (images[:30], labels[:30]), "test": (images[30:], labels[30:])}
    whole = Dataset(data).task(seed=3).test
    monkeypatch.setattr(Decoded, "fingerprints", property(lambda _: pytest.fail("looked through")))
    alone = Dataset(data).test
    assert alone.labels.tolist() == labels[30:].tolist()
    assert alone.hash == whole.hash
    with pytest.raises(pytest.fail.Exception, match="looked through"):
        Dataset(data).task(seed=3)
