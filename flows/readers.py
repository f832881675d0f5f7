"""Annotation readers by name: `{reader: coco_captions, path: ..., namespace: coco, split: train}`.

A reader is a module of `storage.annotations` with a function `read`; its keyword arguments are
the keys of an entry. So a new dataset is one module and one entry, and nothing here changes.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, get_args, get_type_hints

from flows.errors import ConfigError
from flows.typed import nearest

PACKAGE = "storage.annotations"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderCall:
    """One call of a reader, without its files: those are inputs of the stage.

    options:    arguments that are text
    file_names: keys under which the stage's inputs hold the files; `split_lists.train` fills a
                mapping argument
    """

    reader: str
    options: Mapping[str, str] = field(default_factory=dict)
    file_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """An entry of the configuration after its check; files still relative to the root."""

    reader: str
    options: Mapping[str, str]
    files: Mapping[str, str]


def check_entry(entry: Mapping[str, Any]) -> SourceEntry:
    """Check an entry against its reader's signature.

    Raises:
        ConfigError: No such reader, unknown or missing key, or a value of the wrong kind.
    """
    name = entry.get("reader")
    if not isinstance(name, str):
        raise ConfigError(f"needs a reader: one of {', '.join(reader_names())}")
    read = reader(name)
    parameters = inspect.signature(read).parameters
    hints = get_type_hints(read)
    for key in entry:
        if key != "reader" and key not in parameters:
            raise ConfigError(f"{key}: {nearest(key, list(parameters))}")
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and key not in entry
    ]
    if missing:
        raise ConfigError(f"reader {name!r} needs {', '.join(missing)}")
    files: dict[str, str] = {}
    options: dict[str, str] = {}
    for key, value in entry.items():
        if key == "reader" or value is None:
            continue
        if not _is_path(hints[key]):
            options[key] = _text(key, value)
        elif isinstance(value, Mapping):
            files |= {f"{key}.{member}": _text(key, each) for member, each in value.items()}
        else:
            files[key] = _text(key, value)
    return SourceEntry(reader=name, options=options, files=files)


def call_reader(call: ReaderCall, files: Mapping[str, Path]) -> Any:
    """Run a reader on its files.

    Args:
        call: reader and options.
        files: key of `call.file_names` -> file.
    """
    read = reader(call.reader)
    hints = get_type_hints(read)
    arguments: dict[str, Any] = dict(call.options)
    for key in call.file_names:
        name, _, member = key.partition(".")
        if member:
            arguments.setdefault(name, {})[member] = files[key]
        else:
            arguments[name] = files[key]
    for name, parameter in inspect.signature(read).parameters.items():
        if name not in arguments and parameter.default is inspect.Parameter.empty:
            arguments[name] = None if type(None) in get_args(hints[name]) else ""
    return read(**arguments)


def reader(name: str) -> Callable[..., Any]:
    """The function `read` of a module of `storage.annotations`.

    Raises:
        ConfigError: No such module.
    """
    if name not in reader_names():
        raise ConfigError(f"reader: {nearest(name, reader_names()).replace('key', 'reader')}")
    read: Callable[..., Any] = import_module(f"{PACKAGE}.{name}").read
    return read


def reader_names() -> list[str]:
    """Names of all readers there are."""
    package = import_module(PACKAGE)
    return sorted(
        module.name
        for module in iter_modules(package.__path__)
        if not module.name.startswith("_")
        and "def read(" in (Path(package.__path__[0]) / f"{module.name}.py").read_text("utf-8")
    )


def _is_path(hint: Any) -> bool:
    return hint is Path or any(_is_path(each) for each in get_args(hint))


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key}: must be text, not {value!r}")
    return value
