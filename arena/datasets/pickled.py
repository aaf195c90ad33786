"""Pickles read as data: dicts, lists, tuples, texts, bytes, whole numbers and arrays of uint8.

A pickle is a program, and a guarded `find_class` is no guard against all of it: a memo index of four bytes
makes the standard reader take 64 GiB, and a deeply nested key overruns the stack of C. So no unpickler runs
here. `pickletools` cuts the file into opcodes, and a machine that can neither import nor call anything knows
the few of them that such data need; the functions of NumPy and Python that arrays are pickled through are
names to it, each with a meaning of its own.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.datasets.dataset import DatasetError

MOST_BYTES = 2**26  # a CIFAR-10 batch is 31 MB; up to twice that where Python 3 wrote it in protocol 2
MOST_STEPS = 2**18  # a CIFAR-10 batch takes 30,000
GLOBALS = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "reconstruct",
    "numpy._core.multiarray _reconstruct": "reconstruct",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "_codecs encode": "encode",
}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(path: Path) -> Any:
    """What a pickle of plain data (any protocol, of Python 2 or 3) holds; nothing in it is ever run.

    Dicts have str keys. Texts of Python 2 come as str, one character a byte (latin-1). NumPy arrays of uint8
    come as arrays. Raises DatasetError for a file of anything else, cut short, damaged or larger than
    64 MiB, in a sentence that names what was found.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise DatasetError(f"{path}: {size:,} bytes are too many; such a file has at most {MOST_BYTES:,}")
    try:
        with warnings.catch_warnings(action="ignore"):  # pickletools' on what a damaged text holds
            return _run(path.read_bytes())
    except _Refused as error:
        raise DatasetError(
            f"{path}: refused, and nothing in it was run: it holds {error}; allowed are dicts, lists, texts, "
            f"whole numbers and uint8 arrays"
        ) from None
    except (ValueError, IndexError) as error:
        told = _short(str(error).partition("\n")[0])
        raise DatasetError(f"{path}: is no pickle, cut short or damaged ({told})") from error


class _Refused(Exception):
    """Something that plain data do not need."""


@dataclass(frozen=True)
class _Name:
    """One of the values of GLOBALS."""

    name: str


@dataclass(frozen=True)
class _Dtype:
    code: str


@dataclass
class _Array:
    """An array, whose content comes after it has been named in the memo."""

    content: NDArray[np.uint8] | None = None


@dataclass
class _Machine:
    """The stack, where its marks stand, and the memo.

    `left` counts the characters that may still be turned into bytes: no more than the file has, for it could
    have one text turned again and again.
    """

    left: int
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def step(self, name: str, argument: Any) -> None:
        """One opcode by the name and with the argument that pickletools gives it."""
        if name in LITERALS:
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            self.stack.append([] if name == "EMPTY_LIST" else {})
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in TUPLES:
            self.stack.append(tuple(map(_whole, self._pop(TUPLES[name]))))
        elif name == "TUPLE":
            self.stack.append(tuple(map(_whole, self._pop_to_mark())))
        elif name in ("LIST", "DICT"):
            items = self._pop_to_mark()
            self.stack.append([] if name == "LIST" else {})
            (_extend if name == "LIST" else _update)(self.stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._pop_to_mark()
            _extend(self._top(), items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._pop_to_mark()
            _update(self._top(), items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise ValueError(f"memo {argument} was never set")
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            words = argument.split(" ", 1) if name == "GLOBAL" else self._pop(2)
            self.stack.append(_name(*words))
        elif name == "REDUCE":
            self.stack.append(self._call(*self._pop(2)))
        elif name == "BUILD":
            (state,) = self._pop(1)
            self._build(self._top(), state)
        elif name not in ("PROTO", "FRAME"):
            named = f" of {_short(argument.replace(' ', '.'))}" if isinstance(argument, str) else ""
            raise _Refused(f"the opcode {name}{named}")

    def _top(self) -> Any:
        if not self.stack:
            raise ValueError("the stack ran empty")
        return self.stack[-1]

    def _pop(self, n: int) -> list[Any]:
        if n > len(self.stack):
            raise ValueError("the stack ran empty")
        return [self.stack.pop() for _ in range(n)][::-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("a mark is missing")
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def _bytes(self, text: str) -> bytes:
        self.left -= len(text)
        if self.left < 0:
            raise _Refused("a text that is turned into bytes again and again")
        return text.encode("latin-1")

    def _call(self, function: Any, arguments: Any) -> Any:
        """What a call of one of GLOBALS, with arguments as NumPy and Python pickle them, stands for."""
        match function, arguments:
            case _Name("reconstruct"), (_Name("ndarray"), (0,), str() | bytes()):
                return _Array()
            case _Name("frombuffer"), (data, _Dtype() as dtype, tuple() as shape, str() as order):
                return _Array(_array(data, dtype, shape, order))
            case _Name("dtype"), (str() as code, *_):
                return _Dtype(code)
            case _Name("encode"), (str() as text, "latin1" | "latin-1"):
                return self._bytes(text)
        raise _Refused("a call that no array is pickled with")

    def _build(self, value: Any, state: Any) -> None:
        """Give an array or dtype its state, as NumPy would."""
        match value, state:
            case _Dtype(), (int(), *_):
                pass  # the byte order and such, of which a single byte has none
            case _Array(), (int(), tuple() as shape, _Dtype() as dtype, by_columns, data):
                data = self._bytes(data) if isinstance(data, str) else data
                value.content = _array(data, dtype, shape, "F" if by_columns is True else "C")
            case _:
                raise _Refused("a state that no array is pickled with")


def _run(pickle: bytes) -> Any:
    machine = _Machine(len(pickle))
    for n, (opcode, argument, at) in enumerate(pickletools.genops(pickle)):
        if n >= MOST_STEPS:
            raise _Refused(f"more than {MOST_STEPS:,} opcodes")
        if opcode.name != "STOP":
            machine.step(opcode.name, argument)
        elif at is None or at + 1 < len(pickle):
            raise ValueError("it goes on behind its end")
    if len(machine.stack) != 1:
        raise ValueError("it leaves more or less than one thing")
    return _plain(machine.stack[0])


def _whole(value: Any) -> Any:
    if not isinstance(value, _Array):
        return value
    if value.content is None:
        raise ValueError("an array without content")
    return value.content


def _plain(value: Any) -> Any:
    if isinstance(value, _Name | _Dtype):
        raise _Refused("a name where data belong")
    return _whole(value)


def _extend(to: Any, items: list[Any]) -> None:
    if type(to) is not list:
        raise ValueError("items of what is no list")
    to.extend(map(_plain, items))


def _update(to: Any, items: list[Any]) -> None:
    if type(to) is not dict or len(items) % 2:
        raise ValueError("keys of what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes):  # nothing else is ever hashed
            raise _Refused(f"a key of type {type(key).__name__}")
        to[key if isinstance(key, str) else key.decode("latin-1")] = _plain(value)


def _name(module: Any, name: Any) -> _Name:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("a name that is no text")
    if f"{module} {name}" not in GLOBALS:
        raise _Refused(f"the name {_short(f'{module}.{name}')}")
    return _Name(GLOBALS[f"{module} {name}"])


def _array(data: Any, dtype: _Dtype, shape: tuple[Any, ...], order: str) -> NDArray[np.uint8]:
    if dtype.code not in ("u1", "|u1"):
        raise _Refused(f"an array of type {_short(dtype.code)}")
    if len(shape) > 4 or not all(type(n) is int and 0 <= n <= MOST_BYTES for n in shape):
        raise ValueError("an array of an impossible shape")
    if type(data) is not bytes or len(data) != math.prod(shape) or order not in ("C", "F"):
        raise ValueError(f"an array {list(shape)} that its bytes do not fill")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if order == "F" else "C")


def _short(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:80]}...")[1:-1]
