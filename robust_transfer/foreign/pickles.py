"""Pickles read without executing them: an interpreter of their opcodes that neither imports nor calls anything.

The opcodes are those of Python's ``pickletools``, which splits a pickle into them and decodes their arguments. What
``torch.load(weights_only=True)`` allows depends on the process (``torch.serialization.add_safe_globals``), and it
constructs what it allows: a kilobyte that names ``bytearray`` takes gigabytes. Here nothing depends on the process,
and the result of a pickle is never larger than a fixed multiple of it.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from robust_transfer.foreign.bytes_of import Bytes
from robust_transfer.foreign.rebuilding import CALLS, NAMES, add_elements, add_items, build, call, known
from robust_transfer.foreign.values import BrokenError, Global, Several

MOST_OPCODES = 2_000_000  # a network with 1,000 tensors and its optimiser has 100,000
MOST_MADE, MOST_NAMES = 1 << 24, 1000  # elements that calls copy, beside four times the file's bytes
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MADE: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": Several,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ARGUMENTS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_ARGUMENTS |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_ARGUMENTS |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
Persistent = Callable[[Any], Any]
LOADS_BYTES = "torch.storage._load_from_bytes"


class Machine:
    """Interpreter of one pickle after another; ``names``: names in them that were not imported.

    ``persistent(id)`` gives objects outside the pickle (PyTorch's storages); ids are refused without it.
    ``nested(bytes, machine)`` gives the storage in bytes within the pickle.
    """

    def __init__(self, persistent: Persistent | None = None) -> None:
        self.names: set[str] = set()
        self.persistent = persistent
        self.nested: Callable[[Any, Machine], Any] | None = None
        self._opcodes = self._made = 0

    def within(self) -> Machine:
        """Interpreter for a nested pickle, with the same bounds."""
        inner = Machine()
        inner.names, inner._opcodes = self.names, self._opcodes
        return inner

    def after(self, inner: Machine) -> None:
        """Count the work of a nested interpreter."""
        self._opcodes, self._made = inner._opcodes, self._made + inner._made

    def load(self, source: Bytes) -> Any:
        """Value of the pickle at the source's position, in terms of :mod:`robust_transfer.foreign.values`.

        Raises :class:`BrokenError`.
        """
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self._size = len(source)
        try:
            for opcode, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]  # it reads bytes and lines
                self._opcodes += 1
                if self._opcodes > MOST_OPCODES:
                    raise BrokenError(f"its pickle has more than {MOST_OPCODES:,} instructions, more than weights need")
                if opcode.name == "STOP":
                    return self._take()
                self._step(opcode.name, argument)
        except BrokenError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
            raise BrokenError(f"its pickle cannot be read: {str(error)[:100] or type(error).__name__}") from None
        raise BrokenError("its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _ARGUMENTS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _MADE:
            stack.append(_MADE[name]())
        elif name in _TUPLES:
            stack.append(tuple(reversed([self._take() for _ in range(_TUPLES[name])])))
        else:
            getattr(self, f"_{name.lower()}", self._unknown)(argument)

    def _unknown(self, argument: Any) -> None:
        raise BrokenError(
            "its pickle has extension codes, out-of-band buffers or instructions of a later Python, which no weights need"
        )

    # ---------------------------------------------------------------- stack

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise BrokenError("its pickle pops from an empty stack")
        return self.stack[-1]

    def _take(self) -> Any:
        self._top()
        return self.stack.pop()

    def _marked(self) -> list[Any]:
        if not self.marks:
            raise BrokenError("its pickle pops from an empty stack")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _proto(self, argument: int) -> None:
        if argument > 5:
            raise BrokenError(f"its pickle is of protocol {argument}, which is not read")

    def _frame(self, argument: int) -> None:
        """Skip the frame's length, which is not part of the value."""

    def _pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self._take()

    # ---------------------------------------------------------------- containers

    def _bytearray8(self, argument: bytearray) -> None:
        self.stack.append(bytes(argument))

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _dict(self, _: Any) -> None:
        made, pairs = dict[Any, Any](), self._marked()
        add_items(made, pairs)
        self.stack.append(made)

    def _frozenset(self, _: Any) -> None:
        self.stack.append(Several(self._marked()))

    def _append(self, _: Any) -> None:
        element = self._take()
        add_elements(self._top(), [element])

    def _appends(self, _: Any) -> None:
        elements = self._marked()
        add_elements(self._top(), elements)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        value, key = self._take(), self._take()
        add_items(self._top(), [key, value])

    def _setitems(self, _: Any) -> None:
        pairs = self._marked()
        add_items(self._top(), pairs)

    def _dup(self, _: Any) -> None:
        self.stack.append(self._top())

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    # ---------------------------------------------------------------- names and calls

    def _named(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 1000:
            raise BrokenError("its pickle uses an object as a name that is not text")
        full = f"{module}.{name}"
        nested = full == LOADS_BYTES and self.nested is not None
        if known(full) not in NAMES and known(full) not in CALLS and not nested:
            self.names.add(full)
            if len(self.names) > MOST_NAMES:
                raise BrokenError(f"its pickle names more than {MOST_NAMES:,} classes and functions")
        return Global(full)

    def _call(self, function: Any, args: Any) -> None:
        if self.nested is not None and isinstance(function, Global) and function.name == LOADS_BYTES:
            made = self.nested(args[0], self)
        else:
            made = call(function, args)
        if isinstance(made, (bytes, list, tuple, dict, Several)):  # the same bytes may be decoded again and again
            self._made += len(made.elements if isinstance(made, Several) else made) * (
                16 if isinstance(made, dict) else 1
            )
            if self._made > MOST_MADE + 4 * self._size:
                raise BrokenError("its pickle copies the same values again and again")
        self.stack.append(made)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._take(), self._take()
        self.stack.append(self._named(module, name))

    def _reduce(self, _: Any) -> None:
        args, function = self._take(), self._take()
        self._call(function, args)

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        keywords, args, function = self._take(), self._take(), self._take()
        self._call(function, args if not keywords else (*args, keywords))

    def _obj(self, _: Any) -> None:
        function, *args = self._marked()
        self._call(function, tuple(args))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._call(self._named(module, name), tuple(self._marked()))

    def _build(self, _: Any) -> None:
        state = self._take()
        build(self._top(), state)

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self._outside(self._take()))

    def _persid(self, argument: str) -> None:
        self.stack.append(self._outside(argument))

    def _outside(self, identity: Any) -> Any:
        if self.persistent is None:
            raise BrokenError("its pickle refers to data outside of it, which is not there")
        return self.persistent(identity)
