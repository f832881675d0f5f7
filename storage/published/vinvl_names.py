"""Names in a published corpus: its yaml, and the keys of its rows.

yaml: `corpus` (data sets joined by `_`; rows of others are left out), `corpus_file` and
`image_label_path` (data set -> folder), relative to the yaml, `image_feature_path`
(data set -> folder), relative to the data folder.
Keys: pieces joined by `_`: first the data set, last the image id, before it the chunk where a data
set comes in chunks. A label key with a piece `qa` marks a question and ends in image id and
question id.
Source: oscar/datasets/oscar_tsv.py of microsoft/Oscar; specs/oscar.md 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from storage.errors import AnnotationError
from storage.json_files import decode_utf8, read_bytes

IN_ONE_FOLDER = frozenset({"coco", "flickr30k", "gqa"})
IN_CHUNKS = frozenset({"googlecc", "sbu", "oi", "objects365", "tagoi"})
_ALIASES = {"cc": "googlecc"}
_QUESTION = "qa"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """An image key taken apart; `chunk` is "" where the data set lies in one folder."""

    dataset: str
    chunk: str
    image: str

    @property
    def image_id(self) -> str:
        """As image ids are written here: `coco/9`, `googlecc/0/111`."""
        return "/".join(part for part in (self.dataset, self.chunk, self.image) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelKey:
    """A label key taken apart; `question` is "" in the key of a caption."""

    dataset: str
    image: str
    question: str


def parse_image_key(key: str) -> ImageKey | None:
    """The parts of an image key; None if it has too few."""
    _, *others = key.split("_")
    dataset = dataset_of(key)
    needed = 2 if dataset in IN_CHUNKS else 1
    if len(others) < needed or not all(others[-needed:]):
        return None
    chunk = others[-2] if dataset in IN_CHUNKS else ""
    return ImageKey(dataset=dataset, chunk=chunk, image=others[-1])


def parse_label_key(key: str) -> LabelKey | None:
    """The parts of a label key; None if it has too few."""
    pieces = key.split("_")
    is_question = _QUESTION in pieces[1:]
    if len(pieces) < (4 if is_question else 2) or not pieces[-1]:
        return None
    return LabelKey(
        dataset=dataset_of(key),
        image=pieces[-2] if is_question else pieces[-1],
        question=pieces[-1] if is_question else "",
    )


def dataset_of(key: str) -> str:
    """The data set that a key begins with, by its full name."""
    first = key.partition("_")[0]
    return _ALIASES.get(first, first)


class CorpusSettings:
    """The yaml, checked.

    datasets:         whose rows are read
    labels, features: data set -> folder as it is written
    """

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            MissingFileError: There is no such file.
            AnnotationError: It is no YAML, or lacks a key or a folder.
        """
        self.path = path
        text = decode_utf8(path, read_bytes(path), AnnotationError)
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise AnnotationError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(content, dict):
            raise AnnotationError(f"{path}: must be a mapping with 'corpus' and 'corpus_file'")
        self.datasets = [
            _ALIASES.get(name, name) for name in str(self._of(content, "corpus", str)).split("_")
        ]
        for name in self.datasets:
            if name not in IN_ONE_FOLDER | IN_CHUNKS:
                known = ", ".join(sorted(IN_ONE_FOLDER | IN_CHUNKS))
                raise AnnotationError(f"{path}: corpus: data set {name!r} is not one of {known}")
        self.corpus_file = path.parent / str(self._of(content, "corpus_file", str))
        self.labels: Mapping[str, str] = self._folders(content, "image_label_path")
        self.features: Mapping[str, str] = self._folders(content, "image_feature_path")

    def _of(self, content: Mapping[str, Any], key: str, kind: type) -> Any:
        if not isinstance(content.get(key), kind):
            raise AnnotationError(f"{self.path}: needs a key {key!r}")
        return content[key]

    def _folders(self, content: Mapping[str, Any], key: str) -> dict[str, str]:
        """Data set -> folder.

        Raises:
            AnnotationError: One of the corpus's data sets has none.
        """
        named = {
            _ALIASES.get(str(name), str(name)): str(place)
            for name, place in self._of(content, key, dict).items()
        }
        missing = next((name for name in self.datasets if name not in named), None)
        if missing is not None:
            raise AnnotationError(f"{self.path}: {key}: no folder for data set {missing!r}")
        return named
