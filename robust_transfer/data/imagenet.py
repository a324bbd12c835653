"""Classes of ImageNet-1k (ILSVRC 2012) by any of their names: torchvision's, WordNet's, or their numbers in WordNet.

One list's name is another list's name of another class: "crane" is the machine to torchvision, which calls the bird "crane
bird", and the bird or the machine to whoever takes WordNet's first words. Such a name is told by its neighbours, or not at
all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from robust_transfer.errors import DataError

COUNT = 1000
NUMBER = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)", re.IGNORECASE)  # of a WordNet noun, wherever it stands in a name


@cache
def categories() -> tuple[str, ...]:
    """Class names in torchvision's weights, in label order, without duplicates."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def is_imagenet(names: Sequence[str]) -> bool:
    """True if ``names`` are :func:`categories`, in their order."""
    return len(names) == COUNT and tuple(names) == categories()


@dataclass(frozen=True)
class Known:
    """Names of some data set as classes of ImageNet.

    ``labels``: of each name its label, or None. ``ambiguous``: names that may be several classes, with their labels.
    """

    labels: tuple[int | None, ...]
    ambiguous: dict[str, tuple[int, ...]]

    @property
    def complete(self) -> bool:
        """True if every name is a class."""
        return None not in self.labels


def known(names: Sequence[str], verbatim: Collection[str] = ()) -> Known:
    """ImageNet classes of ``names``; names in ``verbatim`` are declared to be torchvision's.

    A number in WordNet ("n02012849", "n02012849 crane", "crane (n02012849)") decides. Else upper and lower case and
    punctuation do not count, and a class is known by torchvision's name, by all or the first of WordNet's words, and, if
    no class has such a name, by another of these words. Of several classes those are left out that another name is, and
    of two whose names differ in case only the other one, where the names that are not ambiguous keep upper and lower
    case as the lists do. Raises :class:`DataError` for two names of one class, and for a number that contradicts its name.
    """
    may_be = [_candidates(name, name in verbatim) for name in names]
    if _keeps_case(names, may_be):
        may_be = [_in_its_case(name, some) for name, some in zip(names, may_be, strict=True)]
    while True:  # every class has one name
        taken = {next(iter(some)) for some in may_be if len(some) == 1}
        less = [some - taken if len(some) > 1 else some for some in may_be]
        if less == may_be:
            break
        may_be = less
    labels = tuple(next(iter(some)) if len(some) == 1 else None for some in may_be)
    if twice := [label for label, n in Counter(labels).items() if n > 1 and label is not None]:
        one, other = [name for name, label in zip(names, labels, strict=True) if label == twice[0]][:2]
        raise DataError(f"{one!r} and {other!r} are both ImageNet's {_shown(twice[0])}: a class needs one name")
    return Known(labels, {n: tuple(sorted(some)) for n, some in zip(names, may_be, strict=True) if len(some) > 1})


def renamed(names: Sequence[str], verbatim: Collection[str] = ()) -> list[str]:
    """``names``, with torchvision's instead of those that are classes of ImageNet; see :func:`known`.

    Raises :class:`DataError` for a name that may be several classes.
    """
    found = known(names, verbatim)
    if found.ambiguous:
        raise DataError(ambiguity(found))
    called = categories()
    return [name if label is None else called[label] for name, label in zip(names, found.labels, strict=True)]


def ambiguity(found: Known) -> str:
    """Sentence on the first ambiguous name."""
    name, labels = next(iter(found.ambiguous.items()))
    more = f" (and so may {len(found.ambiguous) - 1} other names)" if len(found.ambiguous) > 1 else ""
    either = " or ".join(map(_shown, labels))
    return f"the class {name!r} of the data may be ImageNet's {either}{more}: call it by its number in WordNet"


def _shown(label: int) -> str:
    return f"{categories()[label]} ({numbers()[label]})"


# ---------------------------------------------------------------- names


@cache
def numbers() -> tuple[str, ...]:
    """Numbers of the classes in WordNet ("n01440764"), in the order of the labels."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


@cache
def _words() -> tuple[str, ...]:
    """WordNet's words for each class, with commas between them."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(label) for label in range(COUNT))


@cache
def _names() -> tuple[tuple[str, ...], ...]:
    """Names of each class in lists: torchvision's, all of WordNet's words, the first of them."""
    return tuple((name, words, words.split(",")[0]) for name, words in zip(categories(), _words(), strict=True))


@cache
def _spellings() -> tuple[dict[str, frozenset[int]], dict[str, frozenset[int]]]:
    """Folded name -> labels: of the names in lists, and of all of WordNet's words."""
    return _inverse(_names()), _inverse([words.split(",") for words in _words()])


def _inverse(names: Iterable[Iterable[str]]) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for label, some in enumerate(names):
        for name in some:
            found.setdefault(_plain(name).casefold(), set()).add(label)
    return {name: frozenset(labels) for name, labels in found.items()}


def _plain(name: str) -> str:
    """Words with one space between them."""
    return " ".join(re.sub(r"[\W_]+", " ", name).split())


def _candidates(name: str, verbatim: bool) -> frozenset[int]:
    if verbatim:
        return frozenset({categories().index(name)} if name in categories() else ())
    stated = {each.lower() for each in NUMBER.findall(name)}
    folded, none = _plain(NUMBER.sub(" ", name)).casefold(), frozenset[int]()
    listed, other = (spellings.get(folded, none) for spellings in _spellings())
    if not stated:
        return listed or other
    labels = frozenset(numbers().index(each) for each in stated if each in numbers())
    if len(stated) > 1 or ((listed or other) and not labels <= (listed | other)):
        raise DataError(f"the name {name!r} of the data contradicts itself: its number and its words are two classes")
    return labels


# ---------------------------------------------------------------- upper and lower case


def _in_its_case(name: str, some: frozenset[int]) -> frozenset[int]:
    exact = frozenset(label for label in some if len(some) > 1 and _plain(name) in map(_plain, _names()[label]))
    return exact or some


def _keeps_case(names: Sequence[str], may_be: Sequence[frozenset[int]]) -> bool:
    """True if case is meaningful in the names: two differ in case only, or all are spelled as in a list, in mixed case."""
    plain = [_plain(NUMBER.sub(" ", name)) for name in names]
    if len({name.casefold() for name in plain}) < len(set(plain)):
        return True
    sure = [
        (name, {_plain(each) for each in _names()[next(iter(some))]})
        for name, some in zip(plain, may_be, strict=True)
        if len(some) == 1 and name.casefold() in _spellings()[0]
    ]
    return (
        all(name in listed for name, listed in sure)
        and any(name != name.lower() for name, _ in sure)
        and any(name == name.lower() for name, _ in sure)
    )
