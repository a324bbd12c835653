"""Calls allowed in a pickle: a short list, each entry implemented here, which describes a value and does nothing else.

The names are those of PyTorch's and NumPy's own pickles (``torch/_utils.py``, ``numpy/_core/multiarray.py``). No name
is ever looked up in a module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from robust_transfer.foreign.values import (
    STORAGES,
    TORCH_DTYPES,
    Array,
    BrokenError,
    DType,
    Global,
    Made,
    Several,
    Storage,
    View,
    raw_of,
    view,
)

OLD = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections", "numpy._core": "numpy.core"}
Rule = Callable[..., Any]
NOT_MADE = object()  # what a rule gives for arguments that it does not know: the object stays inert


def known(name: str) -> str:
    """Name as in the tables below, whatever version of Python or NumPy wrote it."""
    for old, new in OLD.items():
        if name.startswith(old + "."):
            return new + name.removeprefix(old)
    return name


def _pairs(*args: Any) -> Any:
    """``OrderedDict(pairs)``."""
    made = dict[Any, Any]()
    for pair in _elements(args[0]) if args else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            return NOT_MADE
        put(made, pair[0], pair[1])
    return made


def _elements(given: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(given, Several):
        return given.elements
    if isinstance(given, dict):
        return list(given.items())
    return given if isinstance(given, (list, tuple)) else ()


def put(target: dict[Any, Any], key: Any, value: Any) -> None:
    """Set an item. Keys that are not plain words or numbers get a name: comparing them could take for ever."""
    if isinstance(key, (bytes, memoryview)):
        key = bytes(key[:4096]).decode("latin-1")
    if not (isinstance(key, str) or key is None or (isinstance(key, int) and abs(key) < 2**60)):
        key = str(key) if isinstance(key, float) else f"<key {len(target)}>"
    target[key] = value


def _scalar(dtype: Any, raw: Any = None) -> Any:
    """``numpy.core.multiarray.scalar``: a Python number."""
    kind = dtype.numpy() if isinstance(dtype, DType) else None
    if kind is None or raw is None:
        return NOT_MADE
    content = raw_of(raw)
    if len(content) != kind.itemsize or not content:
        raise BrokenError(f"a NumPy number of type {kind} has {len(content)} bytes")
    value = np.frombuffer(content, kind)[0].item()
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _reconstruct(kind: Any, *_: Any) -> Any:
    return Array() if isinstance(kind, Global) and kind.name == "numpy.ndarray" else NOT_MADE


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> Any:
    return Array(shape, dtype, "F" if order == "F" else "C", raw)


def _dtype(code: Any, *_: Any) -> Any:
    return DType(code) if isinstance(code, str) else NOT_MADE


def _encode(text: Any, encoding: Any = "utf-8") -> Any:
    """``_codecs.encode``: bytes as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        return NOT_MADE
    return text.encode("latin-1" if encoding in ("latin1", "latin-1") else "utf-8")


def _bytes(*args: Any) -> Any:
    if not args:
        return b""
    return args[0] if isinstance(args[0], (bytes, memoryview)) else _encode(*args)


def _tensor_v2(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> View:
    return view(storage, offset, shape, strides)


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Any:
    found = TORCH_DTYPES.get(dtype.name) if isinstance(dtype, Global) else None
    return view(storage, offset, shape, strides, found) if found is not None else NOT_MADE


def _parameter(data: Any, *_: Any) -> Any:
    return data if isinstance(data, View) else NOT_MADE


def _from_type(function: Any, kind: Any, args: Any, *_: Any) -> Any:
    """``torch._tensor._rebuild_from_type_v2``: a tensor, without its attributes."""
    rule = CALLS.get(known(function.name)) if isinstance(function, Global) else None
    return rule(*args) if rule is not None and rule is not _from_type and isinstance(args, tuple) else NOT_MADE


def _reconstructor(kind: Any, base: Any = None, state: Any = None) -> Any:
    """``copyreg._reconstructor(class, base, state)``: object construction below protocol 2; ``base`` may be dict."""
    items = list(state.items()) if isinstance(state, dict) else []
    return Made(kind.name, items=items) if isinstance(kind, Global) else NOT_MADE


CALLS: dict[str, Rule] = {
    "collections.OrderedDict": _pairs,
    "collections.defaultdict": lambda factory=None, *_: {},
    "collections.Counter": _pairs,
    "builtins.dict": _pairs,
    "builtins.set": lambda *args: Several(list(_elements(args[0])) if args else []),
    "builtins.frozenset": lambda *args: Several(list(_elements(args[0])) if args else []),
    "builtins.list": lambda *args: list(_elements(args[0])) if args else [],
    "builtins.tuple": lambda *args: tuple(_elements(args[0])) if args else (),
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstructor,
    "torch.Size": lambda *args: tuple(_elements(args[0])) if args else (),
    "torch._utils._rebuild_tensor": _tensor_v2,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy.dtype": _dtype,
}
# Names that stand for themselves: arguments of the calls above.
NAMES = {"numpy.ndarray", "torch.Tensor", "builtins.object", *STORAGES, *TORCH_DTYPES}


def call(function: Any, args: Any) -> Any:
    """Value of a pickle's call, or a stand-in. Raises :class:`BrokenError`."""
    if not isinstance(args, tuple) or not isinstance(function, (Global, Made)):
        raise BrokenError("it calls an object that is not a function")
    rule = CALLS.get(known(function.name)) if isinstance(function, Global) else None
    if rule is None:
        return Made(function.name)
    try:
        made = rule(*args)
    except TypeError:  # other arguments than the call takes
        made = NOT_MADE
    return Made(function.name) if made is NOT_MADE else made


def build(target: Any, state: Any) -> None:
    """Effect of ``__setstate__`` on a stand-in."""
    if isinstance(target, (Array, DType)):
        target.build(state)
    elif isinstance(target, Made):
        target.states.append(state)
    elif not isinstance(target, (dict, View, Storage, Global, Several, list)):  # attributes beside the value: left out
        raise BrokenError(f"it gives attributes to a {type(target).__name__}")


def add_items(target: Any, pairs: list[Any]) -> None:
    """``target[key] = value`` for keys and values in turn."""
    if len(pairs) % 2:
        raise BrokenError("it has a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if isinstance(target, dict):
            put(target, key, value)
        elif isinstance(target, Made):
            target.items.append((key, value))
        else:
            raise BrokenError(f"it gives items to a {type(target).__name__}")


def add_elements(target: Any, elements: list[Any]) -> None:
    """``target.append`` for each element."""
    if isinstance(target, Several):
        target.elements.extend(elements)
    elif isinstance(target, list):
        target.extend(elements)
    elif not isinstance(target, Made):  # elements of a list of an unknown class are left out
        raise BrokenError(f"it gives elements to a {type(target).__name__}")
