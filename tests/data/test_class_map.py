"""Labels in the order of another side's names: by name, or by a mapping from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robust_transfer.data import Split, imagenet
from robust_transfer.data.class_map import in_common, in_order_of, read_class_map
from robust_transfer.errors import ConfigError, DataError

FILES = {
    "map.yaml": "no: none\n'1': one\n",
    "map.json": '{"no": "none", "1": "one"}',
    "map.csv": "no,none\n\n1,one\n",
}


def labelled(*names: str) -> Split:
    return Split.in_memory(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]), names)


@pytest.mark.parametrize("name", FILES)
def test_names_in_files_are_text(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert read_class_map(tmp_path / name) == {"no": "none", "1": "one"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "a,b,c"),
        ("m.csv", "a,b\na,c"),
        ("m.yaml", "- a"),
        ("m.json", '{"a": 1}'),
        ("m.json", "{"),
        ("m.yaml", ""),
    ],
)
def test_other_files_are_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((ConfigError, DataError)):
        read_class_map(tmp_path / name)
    with pytest.raises(DataError, match="cannot read the class map"):
        read_class_map(tmp_path / "missing.csv")


def test_another_order_is_followed_and_said() -> None:
    split, notes = in_order_of(("x", "y", "z"), labelled("z", "x", "y"))
    assert split.labels.tolist() == [2, 0, 1, 2]
    assert split.class_names == ("x", "y", "z")
    assert "another order" in notes[0]
    same = labelled("x", "y", "z")
    assert in_order_of(("x", "y", "z"), same) == (same, [])


def test_other_names_need_a_map() -> None:
    data = labelled("Z", "x", "y")
    with pytest.raises(DataError, match=r"differ only in upper and lower case.*--class-map"):
        in_order_of(("x", "y", "z"), data)
    split, notes = in_order_of(("x", "y", "z"), data, {"Z": "z"})
    assert split.labels.tolist() == [2, 0, 1, 2]
    assert "'Z' is 'z'" in notes[0]
    with pytest.raises(DataError, match="class of the data 'q'"):
        in_order_of(("x", "y", "z"), data, {"q": "z"})
    with pytest.raises(DataError, match="twice"):
        in_order_of(("x", "y", "z"), data, {"Z": "x"})


def test_the_data_may_have_some_of_the_classes_only() -> None:
    names = ("eel", "cat", "fox", "dog", "ape", "fox")  # a name that is there twice is none of the data's
    split, notes = in_order_of(names, labelled("cat", "dog", "eel"))
    assert [names[label] for label in split.labels] == ["cat", "dog", "eel", "cat"]
    assert split.class_names == names
    assert notes == [
        "the data has 3 of the 6 classes of the model, which are all predicted",
        "the data has its classes in another order than the model: labels are matched by name",
    ]
    mapped, _ = in_order_of(names, labelled("Katze", "dog", "eel"), {"Katze": "cat"})
    assert torch.equal(mapped.labels, split.labels)
    for given, said in (
        (("cat", "dog", "fox"), "has the class 'fox' twice"),
        (("cat", "dog", "owl"), "only in the data 'owl'"),
        (("cat", "dog", "Eel"), "differ only in upper and lower case"),
    ):
        with pytest.raises(DataError, match=said):
            in_order_of(names if "fox" in given else names[:-1], labelled(*given))


def test_numbers_do_not_tell_which_part_of_the_classes_they_are() -> None:
    numbers = tuple(str(i) for i in range(10))
    with pytest.raises(DataError, match=r"3 classes that are numbers, and the model 10: .* give a class map"):
        in_order_of(numbers, labelled("0", "1", "2"))
    split, _ = in_order_of(numbers, labelled("0", "1", "2"), {"0": "4"})
    assert split.labels.tolist() == [4, 1, 2, 4]


def test_classes_of_imagenet_are_known_by_any_name() -> None:
    names = imagenet.categories()
    for given, labels in (
        (("crane", "n03126707", "tench"), [134, 517, 0, 134]),
        (("crane", "crane bird", "tench"), [517, 134, 0, 517]),
        (("n02012849", "n03126707 crane", "tench, Tinca tinca"), [134, 517, 0, 134]),
    ):
        split, notes = in_order_of(names, labelled(*given))
        assert split.labels.tolist() == labels
        assert split.class_names == names
        assert "the data has 3 of the 1000 classes of the model" in notes[0]
        assert in_common(names, labelled(*given))
    assert "'crane' is 'crane bird'" in in_order_of(names, labelled("crane", "n03126707", "tench"))[1][1]
    birds = labelled("crane", "goose", "tench")
    with pytest.raises(DataError, match=r"may be ImageNet's crane bird \(n02012849\) or crane .* or give a class map"):
        in_order_of(names, birds)
    for said, label in (("crane bird", 134), ("crane", 517)):
        assert in_order_of(names, birds, {"crane": said})[0].labels.tolist() == [label, 99, 0, label]


def test_what_is_no_class_of_imagenet_is_named() -> None:
    names = imagenet.categories()
    with pytest.raises(DataError, match=r"only in the data 'my dog'"):
        in_order_of(names, labelled("my dog", "n03126707", "tench"))
    assert in_common(names, labelled("my dog", "n03126707", "tench"))
    assert not in_common(names, labelled("my dog", "my cat", "1"))
    assert not in_common(names[:10], labelled("n01440764", "my cat", "1"))
