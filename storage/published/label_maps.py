"""Label maps in the layout of VinVL (`VG-SGG-dicts-vgoi6-clipped.json`): names and their indices.

Keys: `label_to_idx`, `attribute_to_idx`, `predicate_to_idx` (name -> index from 1), the same
backwards as `idx_to_label`, `idx_to_attribute`, `idx_to_predicate` (keys are strings), and
`object_count`, `attribute_count`, `predicate_count` (name -> occurrences). Only `label_to_idx`
must be there. Index 0 is the background, or "no attribute", and is not written.
Source: maskrcnn_benchmark/data/datasets/utils/load_files.py of microsoft/scene_graph_benchmark.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from storage.artifacts import atomic_write_json
from storage.errors import DamagedFileError, RecordError
from storage.json_files import read_json

BACKGROUND = "__background__"
"""Name of class 0."""
NO_ATTRIBUTE = "__no_attribute__"
"""Name of attribute 0."""

_FAMILIES = {
    "label": ("label_to_idx", "idx_to_label", "object_count"),
    "attribute": ("attribute_to_idx", "idx_to_attribute", "attribute_count"),
    "predicate": ("predicate_to_idx", "idx_to_predicate", "predicate_count"),
}
_KEYS = frozenset(key for keys in _FAMILIES.values() for key in keys)


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """The names a detector can say.

    class_names:      index 0 is BACKGROUND
    attribute_names:  index 0 is NO_ATTRIBUTE
    predicate_names:  index 0 is BACKGROUND; alone if there are none
    class_counts, attribute_counts: name -> occurrences in the training data; may be empty
    """

    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...] = (NO_ATTRIBUTE,)
    predicate_names: tuple[str, ...] = (BACKGROUND,)
    class_counts: Mapping[str, int] = field(default_factory=dict)
    attribute_counts: Mapping[str, int] = field(default_factory=dict)
    predicate_counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that names are unique and index 0 is what it must be."""
        for family, names, zero in (
            ("class", self.class_names, BACKGROUND),
            ("attribute", self.attribute_names, NO_ATTRIBUTE),
            ("predicate", self.predicate_names, BACKGROUND),
        ):
            if not names or names[0] != zero:
                raise RecordError(f"label map: {family} 0 must be {zero!r}, as `label_map_of` does")
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise RecordError(f"label map: {family} name {twice!r} occurs twice")

    @cached_property
    def class_ids(self) -> Mapping[str, int]:
        """Class name -> index; the background is not in it."""
        return _to_index(self.class_names)

    @cached_property
    def attribute_ids(self) -> Mapping[str, int]:
        """Attribute name -> index; "no attribute" is not in it."""
        return _to_index(self.attribute_names)

    @cached_property
    def is_numbered(self) -> bool:
        """Whether numbers stand in for names of classes that nobody told."""
        return self.class_names[1:] == tuple(map(str, range(1, len(self.class_names))))

    def class_id(self, name: str) -> int | None:
        """Index of a class name, None if the map does not have it."""
        return self.class_ids.get(name)

    def attribute_id(self, name: str) -> int | None:
        """Index of an attribute name, None if the map does not have it."""
        return self.attribute_ids.get(name)


def label_map_of(class_names: Iterable[str], attribute_names: Iterable[str] = ()) -> LabelMap:
    """A label map of names in their order; the entries of index 0 are put in front.

    Raises:
        RecordError: A name occurs twice.
    """
    return LabelMap(
        class_names=(BACKGROUND, *class_names), attribute_names=(NO_ATTRIBUTE, *attribute_names)
    )


def read_label_map(path: Path) -> LabelMap:
    """Read a label map and check it.

    Raises:
        MissingFileError: There is no such file.
        DamagedFileError: Not JSON, an unknown key, indices that are shared, missing or below 1,
            directions that disagree; every problem is named.
    """
    content = read_json(path, DamagedFileError, refuse_repeated_keys=True)
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path}: not a label map (no object); see `label_to_idx` of VinVL")
    problems = [f"unknown key {key!r}" for key in content if key not in _KEYS]
    if "label_to_idx" not in content:
        problems.append("key 'label_to_idx' missing")
    names = {family: _names(content, family, problems) for family in _FAMILIES}
    counts = {family: _counts(content, family, problems) for family in _FAMILIES}
    if problems:
        raise DamagedFileError(f"{path}: {'; '.join(problems)}")
    return LabelMap(
        class_names=(BACKGROUND, *names["label"]),
        attribute_names=(NO_ATTRIBUTE, *names["attribute"]),
        predicate_names=(BACKGROUND, *names["predicate"]),
        class_counts=counts["label"],
        attribute_counts=counts["attribute"],
        predicate_counts=counts["predicate"],
    )


def write_label_map(path: Path, label_map: LabelMap) -> None:
    """Write a label map in the published layout.

    Raises:
        OSError: It cannot be written; what was there before stays.
    """
    content: dict[str, Mapping[str, object]] = {}
    for family, names, counts in (
        ("label", label_map.class_names, label_map.class_counts),
        ("attribute", label_map.attribute_names, label_map.attribute_counts),
        ("predicate", label_map.predicate_names, label_map.predicate_counts),
    ):
        forward, backward, occurrences = _FAMILIES[family]
        content[forward] = _to_index(names)
        content[backward] = {str(index): name for name, index in _to_index(names).items()}
        if counts:
            content[occurrences] = dict(counts)
    atomic_write_json(path, content)


def _to_index(names: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(names) if index}


def _names(content: Mapping[str, Any], family: str, problems: list[str]) -> list[str]:
    """Names of one family in the order of their indices; adds what is wrong to `problems`."""
    forward, backward, _ = _FAMILIES[family]
    index_by_name = content.get(forward, {})
    if not _is_index(index_by_name):
        problems.append(f"{forward}: must map names to whole numbers")
        return []
    names_by_index: dict[int, list[str]] = {}
    for name, index in index_by_name.items():
        names_by_index.setdefault(index, []).append(name)
        if index < 1:
            problems.append(f"{forward}: {name!r} has index {index}, indices start at 1")
    for index, names in sorted(names_by_index.items()):
        if len(names) > 1:
            problems.append(f"{forward}: index {index} is shared by {', '.join(map(repr, names))}")
    last = max(names_by_index, default=0)
    missing = [index for index in range(1, min(last, 100_000)) if index not in names_by_index]
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        problems.append(f"{forward}: no name for index {shown}")
    if backward in content:
        _compare(forward, backward, index_by_name, content[backward], problems)
    return [names_by_index[index][0] for index in sorted(names_by_index)]


def _compare(
    forward: str, backward: str, index_by_name: Mapping[str, int], back: Any, problems: list[str]
) -> None:
    if not isinstance(back, dict):
        problems.append(f"{backward}: must be an object")
        return
    for key, name in back.items():
        if str(index_by_name.get(name) if isinstance(name, str) else None) != key:
            problems.append(f"{backward}: {key!r} is {name!r}, {forward} says otherwise")
    unsaid = [name for name, index in index_by_name.items() if str(index) not in back]
    if unsaid:
        problems.append(f"{backward}: {unsaid[0]!r} missing, though {forward} has it")


def _counts(content: Mapping[str, Any], family: str, problems: list[str]) -> dict[str, int]:
    key = _FAMILIES[family][2]
    counts = content.get(key, {})
    if not _is_index(counts):
        problems.append(f"{key}: must map names to whole numbers")
        return {}
    return dict(counts)


def _is_index(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(number, int) and not isinstance(number, bool) for number in value.values()
    )
