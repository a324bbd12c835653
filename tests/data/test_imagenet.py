"""Classes of ImageNet under the names of the common lists; labels as published (torchvision's and WordNet's lists)."""

from __future__ import annotations

import re

import pytest

from robust_transfer.data.imagenet import categories, is_imagenet, known, numbers, renamed
from robust_transfer.errors import DataError

# label, number, torchvision's name, WordNet's words: those that a list calls by another's name
TRAPS = (
    (134, "n02012849", "crane bird", "crane"),
    (517, "n03126707", "crane", "crane"),
    (638, "n03710637", "maillot", "maillot"),
    (639, "n03710721", "maillot tank suit", "maillot, tank suit"),
    (264, "n02113186", "Cardigan", "Cardigan, Cardigan Welsh corgi"),
    (474, "n02963159", "cardigan", "cardigan"),
    (657, "n03773504", "missile", "missile"),
    (744, "n04008634", "projectile", "projectile, missile"),
)


def words() -> list[str]:
    info = pytest.importorskip("timm.data").ImageNetInfo()
    return [info.index_to_description(label) for label in range(1000)]


def test_lists_of_all_classes() -> None:
    """A list without a name that is there twice tells all its classes."""
    every = tuple(range(1000))
    sample = list(categories())  # a list that was met: the first of WordNet's words, with a number where it is taken
    sample[134], sample[517], sample[639] = "crane", "crane (n03126707)", "maillot (n03710721)"
    lists = {
        "torchvision": categories(),
        "numbers": numbers(),
        "number and words": [f"{number} {some}" for number, some in zip(numbers(), words(), strict=True)],
        "as folders": [
            f"{number}-{name}".replace(" ", "_") for number, name in zip(numbers(), categories(), strict=True)
        ],
        "words and numbers": sample,
    }
    for name, some in lists.items():
        assert known(some).labels == every, name
        assert renamed(some) == list(categories()), name
        backwards = known(list(reversed(some)))
        assert backwards.labels == every[::-1], name
    assert known(words()).ambiguous == {"crane": (134, 517)}  # twice


def test_first_words_as_keras_lists_them() -> None:
    first = [some.split(",")[0].replace(" ", "_") for some in words()]
    once = [label for label, name in enumerate(first) if first.count(name) == 1]
    assert sorted({name for name in first if first.count(name) > 1}) == ["crane", "maillot"]
    found = known([first[label] for label in once])
    assert (found.labels, found.ambiguous) == (tuple(once), {})


@pytest.mark.parametrize(("label", "number", "name", "some"), TRAPS)
def test_traps(label: int, number: str, name: str, some: str) -> None:
    """Alone such a name is not guessed, with its number it is told."""
    assert categories()[label] == name
    for called in (number, f"{number} {some}", f"{number}_{name}", f"{name} ({number})", f"imagenet_{number.upper()}"):
        assert known(["tench", called]).labels == (0, label), called
    alone = known([name.replace(" ", "_"), "tench"])
    twins = {"crane": (134, 517), "maillot": (638, 639), "cardigan": (264, 474), "Cardigan": (264, 474)}
    if name in twins:
        assert alone.ambiguous == {name: twins[name]}
        with pytest.raises(
            DataError, match=rf"'{name}' of the data may be ImageNet's .*{number}.*: call it by its number"
        ):
            renamed([name, "tench"])
    else:
        assert alone.labels == (label, 0)


def test_neighbours_tell() -> None:
    """A class has one name: where another name is the bird, the crane is the machine."""
    assert known(["crane", "crane_bird"]).labels == (517, 134)
    assert known(["crane", "n03126707"]).labels == (134, 517)
    assert known(["crane", "Grus (n02012849)"]).labels == (517, 134)
    assert known(["maillot", "tank suit"]).labels == (638, 639)
    assert known(["maillot", "crane", "goldfish"]).ambiguous == {"maillot": (638, 639), "crane": (134, 517)}
    assert known(["crane"], verbatim={"crane"}).labels == (517,)  # said to be torchvision's


def test_case_tells_where_names_keep_it() -> None:
    assert known(["Cardigan", "cardigan"]).labels == (264, 474)
    assert known(["cardigan", "English_springer", "tench"]).labels == (474, 217, 0)
    assert known(["Cardigan", "English springer", "tench"]).labels == (264, 217, 0)
    for others in (
        ["english springer", "tench"],
        ["English Springer", "Tench"],
        ["tench"],
        ["Tench"],
        ["ENGLISH SPRINGER"],
    ):
        for name in ("cardigan", "Cardigan"):
            assert known([name, *others]).ambiguous == {name: (264, 474)}, (name, others)
    assert known(["GREAT WHITE SHARK", "french-horn"]).labels == (2, 566)


def test_words_of_several_classes() -> None:
    """Names of lists count before WordNet's further words; of these several classes may have one."""
    assert known(["missile", "tub", "polecat"]).labels == (657, 876, 358)  # also words for 744, 435 and 361
    assert known(["Tinca tinca", "blowfish"]).labels == (0, 397)
    assert known(["panther", "tench"]).ambiguous == {"panther": (286, 290)}
    assert known(["panther", "cougar"]).labels == (290, 286)


def test_other_names_are_no_classes() -> None:
    found = known(["tench", "my dog", "7", "n00000001", "n014407640"])
    assert found.labels == (0, None, None, None, None)
    assert not found.complete
    assert renamed(["tinca tinca", "my dog"]) == ["tench", "my dog"]
    assert not is_imagenet([str(i) for i in range(1000)])
    assert is_imagenet(list(categories()))


def test_contradictions_are_refused() -> None:
    for name in ("n01440764 goldfish", "n02012849 construction site n01440764", "n01440764 crane"):
        with pytest.raises(DataError, match=re.escape(f"'{name}' of the data contradicts itself")):
            known([name])
    assert known(["n04008634 missile"]).labels == (744,)  # the second of its words
    for names in (["tench", "Tinca tinca"], ["n01440764", "tench", "Tinca_tinca"]):
        with pytest.raises(DataError, match=r"are both ImageNet's tench \(n01440764\)"):
            known(names)
