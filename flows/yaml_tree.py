"""YAML files as plain mappings that remember where every key was written.

A file may name one `base:`, beside it or shipped, whose values it changes; `null` takes a section
of the base away. `--set a.b=value` changes values last. A key written twice is refused (PyYAML
keeps the last silently).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from flows.errors import ConfigError

Key = tuple[str | int, ...]
"""Where a value stands: names of mappings, positions in lists."""


MAX_VALUES = 100_000
"""More of them are no configuration."""


@dataclass(slots=True)
class Tree:
    """A configuration before it has types.

    values:  nested mappings, lists and scalars
    origins: key -> "file.yaml:12" or "--set a.b"
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def origin(self, key: Key) -> str:
        """Where a key, or the nearest one above it, was written."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.origins:
                return self.origins[key[:end]]
        return "configuration"


def read_tree(path: Path) -> Tree:
    """Read a YAML file on top of its base.

    A name without a folder that is not a file here is looked up among the configurations that
    ship with the package, so `oscar-flow run demo.yaml` works anywhere.

    Raises:
        ConfigError: No such file, not YAML, a key twice, not a mapping.
    """
    return _read(_found(path), ())


def apply_settings(tree: Tree, settings: Sequence[str]) -> None:
    """Merge `a.b=value` settings; a value is read as YAML, a number in the key is a position.

    Raises:
        ConfigError: A setting without "=", with a broken value, or through a scalar.
    """
    for setting in settings:
        name, equals, text = setting.partition("=")
        origin = f"--set {name}"
        if not equals or not name:
            raise ConfigError(f"--set {setting}: write KEY=VALUE, for example --set seed=3")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{origin}: {' '.join(str(error).split())}") from error
        key: Key = tuple(int(part) if part.isdigit() else part for part in name.split("."))
        _put(tree.values, key, value, origin)
        for old in [old for old in tree.origins if old[: len(key)] == key]:
            del tree.origins[old]
        tree.origins[key] = origin


def shipped_configs() -> Iterator[str]:
    """Names of the configurations inside the package."""
    for entry in files("flows").joinpath("configs").iterdir():
        if entry.name.endswith(".yaml"):
            yield entry.name


def _found(path: Path, beside: Path = Path()) -> Path:
    """The file of that name, beside another one where that is given, or the one that ships."""
    if (beside / path).is_file() or path.parent != Path():
        return beside / path
    name = path.name if path.suffix else f"{path.name}.yaml"
    shipped = Path(str(files("flows").joinpath("configs", name)))
    return shipped if shipped.is_file() else beside / path


def _read(path: Path, above: tuple[Path, ...]) -> Tree:
    if path.resolve() in above:
        raise ConfigError(f"{path}: names itself as base")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(sorted(shipped_configs()))
        raise ConfigError(f"{path}: no such file; shipped with the package: {known}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    own = _parse(text, path)
    base = own.values.pop("base", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise ConfigError(f"{own.origin(('base',))}: base: must be the name of one file")
    tree = _read(_found(Path(base), path.parent), (*above, path.resolve()))
    _merge(tree.values, own.values)
    tree.origins.update(own.origins)
    return tree


def _parse(text: str, path: Path) -> Tree:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _size(node, {})
        values = yaml.safe_load(text)
    except (RecursionError, OverflowError):
        raise ConfigError(f"{path}: nested too deeply, or multiplied by aliases") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ConfigError(f"{path}{line}: not YAML: {problem}") from error
    if node is None:
        return Tree(origins={(): str(path)})
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: a configuration is a mapping of keys to values")
    tree = Tree(values=_apart(values), origins={(): str(path)})
    mistakes = list(_note(node, (), path, tree.origins))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return tree


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Number of values below a node when every `*alias` is written out.

    Raises:
        OverflowError: A few lines of aliases make more of them than a configuration ever has, or
            one that contains itself.
    """
    if id(node) not in known:
        known[id(node)] = MAX_VALUES  # met again before it is known: inside itself
        below = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for each in below for part in (each if isinstance(each, tuple) else (each,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    if known[id(node)] >= MAX_VALUES:
        raise OverflowError
    return known[id(node)]


def _apart(value: Any) -> Any:
    """The same values where each `*alias` is a copy, so that changing one changes no other."""
    if isinstance(value, dict):
        return {name: _apart(each) for name, each in value.items()}
    return [_apart(each) for each in value] if isinstance(value, list) else value


def _note(node: yaml.Node, key: Key, path: Path, origins: dict[Key, str]) -> Iterator[str]:
    """Note the line of every key; yields a line for every key that is written twice."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name_node, value in node.value:
            name = str(name_node.value)
            line = name_node.start_mark.line + 1
            if name in seen:
                yield f"{path}:{line}: {dotted((*key, name))}: key written twice; keep one"
            seen.add(name)
            origins[*key, name] = f"{path}:{line}"
            yield from _note(value, (*key, name), path, origins)
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            origins[*key, at] = f"{path}:{value.start_mark.line + 1}"
            yield from _note(value, (*key, at), path, origins)


def dotted(key: Key) -> str:
    """`("data", "images", 0)` -> "data.images.0"."""
    return ".".join(str(part) for part in key)


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change values in place; mappings merge, lists and scalars are replaced."""
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif value is None and isinstance(base.get(name), dict):
            del base[name]
        else:
            base[name] = value


def _is_section(place: Mapping[str | int, Any], part: str | int) -> bool:
    return isinstance(place.get(part), dict)


def _put(values: dict[str, Any], key: Key, value: object, origin: str) -> None:
    place: Any = values
    for depth, part in enumerate(key):
        is_last = depth == len(key) - 1
        if isinstance(place, list):
            if not isinstance(part, int) or part >= len(place):
                raise ConfigError(f"{origin}: {dotted(key[:depth])} is a list of {len(place)}")
        elif isinstance(place, dict):
            part = str(part)
        else:
            raise ConfigError(f"{origin}: {dotted(key[:depth])} is no section")
        if is_last and value is None and isinstance(place, dict) and _is_section(place, part):
            del place[part]
        elif is_last:
            place[part] = value
        elif isinstance(place, dict):
            if not isinstance(place.get(str(part)), dict | list):
                place[str(part)] = {}
            place = place[str(part)]
        else:
            place = place[part]
