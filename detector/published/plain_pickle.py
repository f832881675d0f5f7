"""Arrays by name out of a pickle file, without running what a pickle may ask for.

A pickle is a small program. Here its instructions are followed by a machine that knows numbers,
text, lists, dicts and numpy arrays, and nothing else: no module is imported, no foreign function
is called. A file that asks for more is refused, with the name it asked for.
Source: Python `Lib/pickletools.py` (the instructions), numpy `ndarray.__reduce__` (the parts of
an array).
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.errors import CheckpointError
from detector.published.weights_file import MOST_COPIES

_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
_ORDERS = ("<", ">", "|", "=")
_MOST_SIDES, _LARGEST_SIDE = 8, 1 << 40
_SPARE_BYTES, _BYTES_PER_KEY = 1 << 20, 64
_INSIDE = ("model", "blobs")  # detectron2 and Caffe2's Detectron wrap their tensors so
_REST_OF_TRAINING = ("_momentum", "lr", "weight_order")  # blobs that Caffe2 leaves beside weights


def read_pickled_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.pkl` of detectron2 or Caffe2's Detectron, under the names in the file.

    Momenta and learning rates of a Caffe2 training are left out.

    Raises:
        CheckpointError: It cannot be read, asks for code, or holds something else.
    """
    content = _unpickled(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: does not map names to arrays")
    for key in _INSIDE:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    weights: dict[str, Tensor] = {}
    room = MOST_COPIES * path.stat().st_size
    for name, value in content.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path}: a tensor is called {name!r}, want text")
        if isinstance(value, _Array) and value.values is not None:
            if not name.endswith(_REST_OF_TRAINING):
                room -= value.values.nbytes
                if room < 0:
                    raise CheckpointError(f"{path}: its arrays are larger than the file")
                weights[name] = torch.from_numpy(value.values.copy())
        elif not name.endswith(_REST_OF_TRAINING) and not name.startswith("__"):
            raise CheckpointError(f"{path}: {name!r} is no array")
    return weights


class _UnreadableError(Exception):
    """An instruction that this machine does not follow; the reason goes into the message."""


@dataclass(slots=True)
class _Array:
    """An array, empty until its parts arrive."""

    values: NDArray[np.generic] | None = None


@dataclass(slots=True)
class _Kind:
    """Kind of number, such as f4, and its order of bytes."""

    name: str
    order: str = "="

    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype(self.order + self.name)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A name that the file asks for."""

    name: str


_MARK = object()
_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, RecursionError)


def _unpickled(path: Path) -> object:
    """What the file holds, arrays as `_Array`."""
    try:
        with open(path, "rb") as stream:
            size = path.stat().st_size
            return _Machine(MOST_COPIES * size + _SPARE_BYTES).run(_Bounded(stream, size))
    except _UnreadableError as error:
        raise CheckpointError(
            f"{path}: {error}; only arrays by name are read from a pickle, nothing in it is "
            "run: convert the file where you trust it"
        ) from error
    except _BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a pickle: {reason}") from error


class _Bounded:
    """A file that is never asked for more bytes than it has, whatever a length in it says."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, num: int) -> bytes:
        return self._stream.read(max(0, min(num, self._size - self._stream.tell())))

    def readline(self) -> bytes:
        return self._stream.readline()


class _Machine:
    """Follows instructions; `stack` holds values, `memo` those that are named again.

    `room`: bytes that may still be made out of what the file holds.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def run(self, stream: _Bounded) -> object:
        for code, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # reads only
            if code.name == "STOP":
                return self.stack.pop()
            if code.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[code.name])
            elif code.name in _LITERALS:
                self.stack.append(argument)
            elif code.name in _ACTIONS:
                _ACTIONS[code.name](self, argument)
            else:
                raise _UnreadableError(f"instruction {code.name}")
        raise ValueError("it ends in the middle")

    def since_mark(self) -> list[object]:
        """Values above the last mark, which goes."""
        above: list[object] = []
        while (value := self.stack.pop()) is not _MARK:
            above.append(value)
        return above[::-1]

    def last(self, num: int) -> tuple[object, ...]:
        """The topmost values, which go."""
        if num > len(self.stack):
            raise ValueError("it uses values that it has not made")
        taken = tuple(self.stack[len(self.stack) - num :])
        del self.stack[len(self.stack) - num :]
        return taken

    def extend(self, values: list[object]) -> None:
        """Into the list on top."""
        if not isinstance(self.stack[-1], list):
            raise _UnreadableError(f"values for a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(values)

    def fill(self, values: list[object]) -> None:
        """Keys and values in turn into the dict on top."""
        if not isinstance(self.stack[-1], dict):
            raise _UnreadableError(f"keys for a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(_as_dict(values))

    def call(self, _: object) -> None:
        """What the file takes for a call: one of `_MAKERS`."""
        wanted, arguments = self.last(2)
        if not isinstance(wanted, _Wanted) or wanted.name not in _MAKERS:
            name = wanted.name if isinstance(wanted, _Wanted) else type(wanted).__name__
            raise _UnreadableError(f"it asks for {name}")
        if not isinstance(arguments, tuple):
            raise ValueError("a call without arguments")
        self.stack.append(self.made(_MAKERS[wanted.name](*arguments)))

    def made(self, value: object) -> object:
        """A value that needed memory; a file that makes the same again and again is refused."""
        if isinstance(value, _Array):
            self.room -= 0 if value.values is None else value.values.nbytes
        elif isinstance(value, bytes | dict):
            self.room -= len(value) * (1 if isinstance(value, bytes) else _BYTES_PER_KEY)
        if self.room < 0:
            raise _UnreadableError("it makes much more than it holds")
        return value

    def build(self, _: object) -> None:
        """The state of an array or of a kind of number."""
        value, state = self.last(2)
        if not isinstance(state, tuple):
            raise _UnreadableError(f"the state of a {type(value).__name__}")
        if isinstance(value, _Array) and len(state) == 5:
            value.values = _filled(*state[1:])
            self.made(value)
        elif isinstance(value, _Kind) and len(state) >= 5 and state[2:5] == (None, None, None):
            value.order = _text(state[1])
            if value.order not in _ORDERS:
                raise ValueError(f"byte order {value.order!r}")
        else:
            raise _UnreadableError(f"the state of a {type(value).__name__}")
        self.stack.append(value)


def _text(value: object) -> str:
    """Text, which Python 2 wrote as bytes."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _filled(
    shape: object, kind: object, is_fortran: object, content: object
) -> NDArray[np.generic]:
    """An array of a shape from its bytes."""
    if not isinstance(kind, _Kind):
        raise _UnreadableError("an array of objects")
    if isinstance(content, str):  # bytes of Python 2, read as Latin-1
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise _UnreadableError("an array of objects")
    sides = shape if isinstance(shape, tuple) else (shape,)
    if len(sides) > _MOST_SIDES or not all(
        type(side) is int and 0 <= side < _LARGEST_SIDE for side in sides
    ):
        raise ValueError(f"an array of shape {shape!r}")
    if prod(sides) * kind.dtype().itemsize != len(content):
        raise ValueError(f"an array of shape {sides} has {len(content)} bytes")
    values = np.frombuffer(content, dtype=kind.dtype())
    ordered = values.reshape(sides, order="F" if is_fortran else "C")
    return ordered.astype(kind.dtype().newbyteorder("="), copy=False)


def _empty_array(*_: object) -> _Array:
    return _Array()


def _from_buffer(content: object, kind: object, shape: object, order: object = "C") -> _Array:
    return _Array(_filled(shape, kind, _text(order) == "F", content))


def _scalar(kind: object, content: object) -> object:
    return _filled((), kind, False, content).item()


def _kind(name: object, *_: object) -> _Kind:
    if _text(name) not in _KINDS:
        raise _UnreadableError(f"an array of {_text(name)!r}")
    return _Kind(_text(name))


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    if _text(encoding) not in ("latin1", "latin-1", "bytes"):
        raise ValueError(f"encoding {encoding!r}")
    return _text(text).encode("latin-1")


def _no_bytes() -> bytes:
    """The content of an empty array in protocols that have no instruction for bytes."""
    return b""


def _as_dict(values: list[object]) -> dict[object, object]:
    """Keys and values in turn; only text and numbers are keys, others could nest endlessly."""
    if not all(isinstance(key, str | int) for key in values[::2]):
        raise _UnreadableError("a key that is neither text nor a number")
    return dict(zip(values[::2], values[1::2], strict=True))


def _ordered(pairs: object = ()) -> dict[object, object]:
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise ValueError("an ordered dict of something else than pairs")
    return _as_dict([part for pair in pairs for part in pair])


_OF_ARRAYS: dict[str, Callable[..., object]] = {
    "multiarray._reconstruct": _empty_array,
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}
_MAKERS: dict[str, Callable[..., object]] = {
    "_codecs.encode": _encoded,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": _ordered,
    "numpy.dtype": _kind,
    **{f"numpy.core.{name}": maker for name, maker in _OF_ARRAYS.items()},
    **{f"numpy._core.{name}": maker for name, maker in _OF_ARRAYS.items()},  # since numpy 2
}
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)


def _put(machine: _Machine, key: object) -> None:
    machine.memo[len(machine.memo) if key is None else int(str(key))] = machine.stack[-1]


def _get(machine: _Machine, key: object) -> None:
    machine.stack.append(machine.memo[int(str(key))])


def _push(make: Callable[[_Machine], object]) -> Callable[[_Machine, object], None]:
    """An action that puts a new value on top."""
    return lambda machine, _: machine.stack.append(make(machine))


def _drop_last(machine: _Machine, _: object) -> None:
    machine.last(1)


def _drop_to_mark(machine: _Machine, _: object) -> None:
    machine.since_mark()


_ACTIONS: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "POP": _drop_last,
    "POP_MARK": _drop_to_mark,
    "DUP": _push(lambda machine: machine.stack[-1]),
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _put,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "EMPTY_LIST": _push(lambda machine: []),
    "LIST": _push(lambda machine: machine.since_mark()),
    "APPEND": lambda machine, _: machine.extend(list(machine.last(1))),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "EMPTY_TUPLE": _push(lambda machine: ()),
    "TUPLE": _push(lambda machine: tuple(machine.since_mark())),
    "TUPLE1": _push(lambda machine: machine.last(1)),
    "TUPLE2": _push(lambda machine: machine.last(2)),
    "TUPLE3": _push(lambda machine: machine.last(3)),
    "EMPTY_DICT": _push(lambda machine: {}),
    "DICT": _push(lambda machine: _as_dict(machine.since_mark())),
    "SETITEM": lambda machine, _: machine.fill(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.fill(machine.since_mark()),
    "GLOBAL": lambda machine, name: machine.stack.append(_Wanted(_text(name).replace(" ", "."))),
    "STACK_GLOBAL": _push(lambda machine: _Wanted(".".join(map(_text, machine.last(2))))),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
