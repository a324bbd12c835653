"""Conversion of a pickle's description to a plain tree, with bounds: a few bytes can describe more than any memory holds."""

from __future__ import annotations

from typing import Any

from robust_transfer.foreign.contents import Inert
from robust_transfer.foreign.values import Array, BrokenError, DType, Global, Made, Several, Storage, View, from_numpy

MOST_VALUES = 2_000_000  # of a tree, counted wherever they stand
DEEPEST = 100
MOST_TIMES = 32  # bytes of tensors, to bytes of the file
Size = tuple[int, int]  # values in a tree, and its depth


class _TooMuchError(BrokenError):
    """Tree that is endless, too deep or too large."""


class Plain:
    """Converter of the values of one file of ``size`` bytes; shared objects stay shared in the tree."""

    def __init__(self, size: int) -> None:
        self._done: dict[int, tuple[Any, Size]] = {}
        self._failed: dict[int, str] = {}
        self._within: set[int] = set()
        self._kept: list[Any] = []  # ids are those of living objects
        self._bytes, self._most = 0, MOST_TIMES * size + (1 << 26)

    def tree(self, value: Any) -> Any:
        """Plain tree. Raises :class:`BrokenError`."""
        return self._of(value)[0]

    def _of(self, value: Any) -> tuple[Any, Size]:
        if value is None or isinstance(value, (bool, float, str)) or (type(value) is int and abs(value) < 2**128):
            return value, (1, 0)
        if (done := self._done.get(id(value))) is not None:
            return done
        if (reason := self._failed.get(id(value))) is not None:
            raise _TooMuchError(reason)
        if id(value) in self._within:
            raise _TooMuchError("a value in it contains itself")
        if len(self._within) > DEEPEST:
            raise _TooMuchError(f"its values are nested deeper than {DEEPEST} levels")
        self._within.add(id(value))
        self._kept.append(value)
        try:
            done = self._converted(value)
        except _TooMuchError as error:
            self._failed[id(value)] = str(error)
            raise
        finally:
            self._within.discard(id(value))
        self._done[id(value)] = done
        return done

    def _converted(self, value: Any) -> tuple[Any, Size]:
        if isinstance(value, (list, tuple, Several)):
            parts = [self._of(each) for each in (value.elements if isinstance(value, Several) else value)]
            elements = [part for part, _ in parts]
            return (tuple(elements) if isinstance(value, tuple) else elements), _whole([size for _, size in parts])
        if isinstance(value, dict):
            items = {key: self._of(each) for key, each in value.items()}
            return {key: part for key, (part, _) in items.items()}, _whole([size for _, size in items.values()])
        if isinstance(value, Made):
            return self._inert(value)
        return self._leaf(value), (1, 0)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, View):
            found = value.tensor()
            self._count(found.numel() * found.element_size())
            return found
        if isinstance(value, Array):
            array = value.numpy()
            if array is None:
                return Inert("numpy.ndarray")
            self._count(array.nbytes * (64 if array.dtype.kind in "SU" else 1))  # words become objects
            found = from_numpy(array)
            return Inert("numpy.ndarray") if found is None else found
        if isinstance(value, Global):
            return Inert(value.name)
        kinds = {DType: "numpy.dtype", Storage: "torch.Storage", memoryview: "bytes"}
        return Inert(kinds.get(type(value), type(value).__name__))

    def _count(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._most:
            raise BrokenError(f"its tensors take more than {MOST_TIMES} times as many bytes as the file has")

    def _inert(self, value: Made) -> tuple[Inert, Size]:
        """Stand-in with its plain attributes and items; those beyond the bounds are left out."""
        state, sizes = dict[str, Any](), [(1, 0)]
        for key, each in _attributes(value):
            try:
                part, size = self._of(each)
                whole = _whole([*sizes, size])
            except _TooMuchError:
                continue
            state[key], sizes = part, [whole]
        return Inert(value.name, state), _whole(sizes)


def _attributes(value: Made) -> list[tuple[str, Any]]:
    """Attributes and items: a state is a dict, or a pair of dicts (``__slots__``)."""
    pairs = list[tuple[str, Any]]()
    for state in value.states:
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if isinstance(part, dict):
                pairs += [(str(key), each) for key, each in part.items()]
    return [*pairs, *((key, each) for key, each in value.items if isinstance(key, str))]


def _whole(parts: list[Size]) -> Size:
    count, depth = 1 + sum(count for count, _ in parts), 1 + max((depth for _, depth in parts), default=0)
    if count > MOST_VALUES:
        raise _TooMuchError(f"its values unfold to more than {MOST_VALUES:,}, which no weights need")
    if depth > DEEPEST:
        raise _TooMuchError(f"its values are nested deeper than {DEEPEST} levels")
    return count, depth
