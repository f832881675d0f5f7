"""Mappings -> frozen dataclasses, all mistakes at once, each with its place and how to mend it.

Two passes: ours finds unknown keys (with the nearest valid one) and numbers written as the wrong
kind, which pydantic's lenient mode would let through ("10" for 10, 1 for true); pydantic's
`TypeAdapter` then builds the values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from flows.errors import ConfigError
from flows.yaml_tree import Key, Tree, dotted

T = TypeVar("T")


def build(tree: Tree, kind: type[T], *, at: Key = ()) -> T:
    """Make the typed configuration out of a tree.

    Args:
        tree: values and their origins.
        kind: a frozen dataclass.
        at: which part of the tree to take; () for all.

    Raises:
        ConfigError: One line for every mistake.
    """
    values = _part(tree.values, at)
    mistakes = list(_mistakes(values, kind, at))
    try:
        built = TypeAdapter(kind).validate_python(values)
        if not mistakes:
            return built
    except ValidationError as error:
        named = {key for key, _ in mistakes}
        found = [((*at, *_key(each["loc"])), each) for each in error.errors()]
        mistakes += [
            (key, _said(each["msg"]))
            for key, each in found
            if key not in named and each["type"] != "unexpected_keyword_argument"
        ]
    except Exception as error:  # a room's own error out of a __post_init__
        if type(error).__module__.split(".")[0] in ("pydantic", "pydantic_core", "builtins"):
            raise
        mistakes = mistakes or [(at, str(error))]
    lines = [
        f"{tree.origin(key)}: {dotted(key) + ': ' if key else ''}{said}" for key, said in mistakes
    ]
    raise ConfigError("\n".join(dict.fromkeys(lines)))


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say of an unknown key."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"
    return f"unknown key; {hint}"


def _mistakes(value: object, kind: Any, key: Key) -> Iterator[tuple[Key, str]]:
    """Unknown keys and wrong kinds of scalars below one value."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        yield from _union_mistakes(value, get_args(kind), key)
    elif is_dataclass(kind):
        yield from _section_mistakes(value, cast(type, kind), key)
    elif origin is not None and _is_kind(origin, Mapping):
        if isinstance(value, Mapping):
            for name, each in value.items():
                yield from _mistakes(each, get_args(kind)[1], (*key, name))
    elif origin is not None and _is_kind(origin, Sequence):
        if isinstance(value, list | tuple):
            for at, (each, wanted) in enumerate(_paired(value, get_args(kind))):
                yield from _mistakes(each, wanted, (*key, at))
    elif origin is not Literal and kind in _SCALARS:
        wrong, said = _SCALARS[kind]
        if wrong(value):
            yield key, f"{said}, not {value!r}"


def _section_mistakes(value: object, kind: type, key: Key) -> Iterator[tuple[Key, str]]:
    if not isinstance(value, Mapping):
        if not is_dataclass(value):
            yield key, f"must be a section of keys, not {value!r}"
        return
    known = {each.name for each in fields(kind) if each.init}
    hints = get_type_hints(kind)
    for name, each in value.items():
        if name not in known:
            yield (*key, name), nearest(str(name), sorted(known))
        else:
            yield from _mistakes(each, hints[name], (*key, name))


def _union_mistakes(value: object, choices: tuple[Any, ...], key: Key) -> Iterator[tuple[Key, str]]:
    """None where allowed; a section goes by the one dataclass among the choices."""
    if value is None and NoneType in choices:
        return
    sections = [each for each in choices if is_dataclass(each)]
    if len(sections) == 1 and isinstance(value, Mapping):
        yield from _mistakes(value, sections[0], key)
        return
    real = [each for each in choices if each is not NoneType]
    if len(real) == 1:
        yield from _mistakes(value, real[0], key)


def _paired(values: Sequence[object], kinds: tuple[Any, ...]) -> Iterator[tuple[object, Any]]:
    for at, value in enumerate(values):
        if (len(kinds) == 2 and kinds[1] is Ellipsis) or len(kinds) == 1:
            yield value, kinds[0]
        elif at < len(kinds):
            yield value, kinds[at]


_SCALARS: dict[Any, tuple[Callable[[object], bool], str]] = {
    bool: (lambda value: not isinstance(value, bool), "must be true or false"),
    int: (
        lambda value: isinstance(value, bool) or not isinstance(value, int),
        "must be a whole number",
    ),
    float: (lambda value: isinstance(value, bool) or not _is_number(value), "must be a number"),
    str: (lambda value: not isinstance(value, str), "must be text (put it in quotes)"),
    Path: (lambda value: not isinstance(value, str | Path), "must be a path"),
}


def _is_number(value: object) -> bool:
    """Numbers, and `5e-5`, which YAML 1.1 reads as text."""
    if isinstance(value, int | float):
        return True
    try:
        float(value) if isinstance(value, str) else float("none")
    except ValueError:
        return False
    return True


def _is_kind(origin: Any, wanted: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, wanted)


def _part(values: Any, at: Key) -> Any:
    for part in at:
        values = values.get(part, {})
    return {} if values is None else values


def _key(location: tuple[int | str, ...]) -> Key:
    """Pydantic names the members of a union in its locations; those are no keys of ours."""
    return tuple(part for part in location if not (isinstance(part, str) and "[" in part))


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")
