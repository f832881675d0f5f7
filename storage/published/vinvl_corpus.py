"""The pretraining corpus of VinVL: a yaml, a table of texts, folders of labels and features.

yaml and keys: `storage.published.vinvl_names`
corpus:        image key, label key, caption or question
labels:        `predictions_gt.tsv` by image id; `QA_fileB.tsv`, answers by question id
features:      `features.tsv` by image id, in a folder a chunk where there are chunks

A document holds no Python object until it is asked for; 12 bytes stand for it.
Source: oscar/datasets/oscar_tsv.py of microsoft/Oscar; specs/oscar.md 5.
"""

import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.errors import AnnotationError, DamagedFileError, MissingFileError
from storage.keys import KeyTable
from storage.published.tsv import TsvReader
from storage.published.vinvl_names import (
    CorpusSettings,
    ImageKey,
    dataset_of,
    parse_image_key,
    parse_label_key,
)
from storage.published.vinvl_regions import (
    FeatureTable,
    KeyedTable,
    LabelTable,
    PublishedLabels,
)

_KEPT_LABELS = 4_096
_NO_QUESTION = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDocument:
    """One row of the corpus with its second text.

    first:         caption or question
    second:        class names of the image joined by spaces, or the question's answers
    height, width: of the image [pixels]
    """

    image_key: str
    label_key: str
    first: str
    second: str
    is_question: bool
    height: int
    width: int


class PublishedCorpus:
    """Documents, regions and labels of a corpus.

    documents:      in the order of the corpus
    image_keys:     each once, in the order of their first document
    image_numbers:  (documents,) int32   place in `image_keys` of each document's image
    question_rows:  (questions,) int32   numbers of the documents that are questions
    feature_places: (images, 2) int32    which feature table, and the row there, of each image
    """

    def __init__(self, parts: "_Parts") -> None:
        """Built by `open_corpus`."""
        self._parts = parts
        self.image_keys = KeyTable(pa.array(parts.image_keys, pa.string()))
        parts.image_keys.clear()
        self.image_numbers = _int32(parts.images)
        self.question_rows = np.flatnonzero(_int32(parts.answers) != _NO_QUESTION).astype(np.int32)
        self.feature_places = _int32(parts.feature_places).reshape(-1, 2)
        self.documents: Sequence[PublishedDocument] = _Documents(self, parts)
        self._label_rows = _int32(parts.label_rows)
        self._labels: OrderedDict[int, PublishedLabels] = OrderedDict()

    def regions(self, image_key: str) -> NDArray[np.float32]:
        """Features of an image (N, D) float32, box numbers included, in the file's order.

        Raises:
            KeyError: No document speaks of it.
            DamagedFileError: Its row cannot be read.
        """
        number = self._number(image_key)
        table, row = self.feature_places[number]
        return self._parts.feature_tables[int(table)].read(int(row), _parsed(image_key).image)

    def labels(self, image_key: str) -> PublishedLabels:
        """Size and class names of an image. Raises as `regions`."""
        number = self._number(image_key)
        if number in self._labels:
            self._labels.move_to_end(number)
            return self._labels[number]
        key = _parsed(image_key)
        found = self._parts.labels[key.dataset].read(int(self._label_rows[number]), key.image)
        self._labels[number] = found
        if len(self._labels) > _KEPT_LABELS:
            self._labels.popitem(last=False)
        return found

    def _number(self, image_key: str) -> int:
        number = self.image_keys.number(image_key)
        if number is None:
            raise KeyError(image_key)
        return number


class _Documents(Sequence[PublishedDocument]):
    """Rows of the corpus, put together when they are asked for."""

    def __init__(self, corpus: PublishedCorpus, parts: "_Parts") -> None:
        self._corpus = corpus
        self._parts = parts
        self._rows = _int32(parts.rows)
        self._answers = _int32(parts.answers)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> PublishedDocument: ...
    @overload
    def __getitem__(self, number: slice) -> list[PublishedDocument]: ...
    def __getitem__(self, number: int | slice) -> PublishedDocument | list[PublishedDocument]:
        """One document.

        Raises:
            IndexError: There are fewer.
            AnnotationError: Its image has no class names, or the question no answer.
            DamagedFileError: A row of labels cannot be read.
        """
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        image_key, label_key, first = self._parts.table[int(self._rows[place])][:3]
        labels = self._corpus.labels(image_key)
        answer_row = int(self._answers[place])
        is_question = answer_row != _NO_QUESTION
        if is_question:
            second = self._parts.answer(answer_row, label_key)
        elif self._parts.has_tags:
            second = " ".join(labels.chosen(use_gt_labels=self._parts.use_gt_labels))
        else:
            second = ""
        if not second and (is_question or self._parts.has_tags):
            raise AnnotationError(
                f"{self._parts.labels[_parsed(image_key).dataset].table.path}: nothing to say "
                f"beside {label_key!r}: {'no answer' if is_question else 'no class name'}; leave "
                f"its rows out of {self._parts.table.path.name}"
            )
        return PublishedDocument(
            image_key=image_key,
            label_key=label_key,
            first=first,
            second=second,
            is_question=is_question,
            height=labels.height,
            width=labels.width,
        )


def open_corpus(
    path: Path,
    features: Path,
    *,
    use_gt_labels: bool = True,
    has_tags: bool = True,
    chunks: tuple[int, int] | None = None,
) -> PublishedCorpus:
    """Open a corpus and find the row of labels and of features of every document.

    Args:
        path: the yaml.
        features: the data folder, which the yaml's feature folders are relative to.
        use_gt_labels: annotated class names where a row has them, else detected ones
            (`--use_gtlabels`).
        has_tags: whether captions get class names as second text (`--use_b`).
        chunks: first chunk and the one after the last; rows of others are left out. None: all.

    Raises:
        MissingFileError: A file or folder is not there.
        AnnotationError: The yaml or a row of the corpus is not in this layout, or names an image
            or question that the labels or features have not.
        DamagedFileError: A table or its index cannot be read.
    """
    settings = CorpusSettings(path)
    parts = _Parts(settings, features, use_gt_labels=use_gt_labels, has_tags=has_tags)
    wanted = None if chunks is None else {str(number) for number in range(*chunks)}
    finding = _Finding(parts, wanted)
    for row, fields in enumerate(parts.table):
        finding.take(row, fields)
    if not parts.rows:
        raise AnnotationError(
            f"{path}: no row of {parts.table.path.name} belongs to {'_'.join(settings.datasets)}"
        )
    return PublishedCorpus(parts)


class _Parts:
    """The open tables, and what was found for each document and image."""

    def __init__(
        self, settings: CorpusSettings, features: Path, *, use_gt_labels: bool, has_tags: bool
    ) -> None:
        self.settings = settings
        self.place = features
        self.use_gt_labels = use_gt_labels
        self.has_tags = has_tags
        self.table = TsvReader(settings.corpus_file)
        self.labels = {
            name: LabelTable(self.label_folder(name)) for name in dict.fromkeys(settings.datasets)
        }
        self.answer_tables: dict[str, KeyedTable] = {}
        self.feature_tables: list[FeatureTable] = []
        self.rows, self.images, self.answers = array("i"), array("i"), array("i")
        self.label_rows, self.feature_places = array("i"), array("i")
        self.image_keys: list[str] = []

    def label_folder(self, dataset: str) -> Path:
        """Where the labels and answers of a data set lie."""
        return self.settings.path.parent / self.settings.labels[dataset]

    def answer(self, row: int, label_key: str) -> str:
        """The answers of a question, joined by spaces.

        Raises:
            DamagedFileError: The row is another's or not in this layout.
        """
        table = self.answer_tables[dataset_of(label_key)]
        fields = table.row(row, label_key.rpartition("_")[2])
        try:
            answers = json.loads(fields[1])["labels"]
            if isinstance(answers, list) and all(isinstance(each, str) for each in answers):
                return " ".join(answers)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise DamagedFileError(f"{table.table.path}: row {row}: needs a list 'labels' of texts")


class _Finding:
    """Looks up the rows of each document; its dictionaries go when the corpus is open."""

    def __init__(self, parts: _Parts, chunks: set[str] | None) -> None:
        self._parts = parts
        self._chunks = chunks
        self._seen: dict[str, int] = {}
        self._label_rows = {name: table.numbers() for name, table in parts.labels.items()}
        self._answer_rows: dict[str, dict[str, int]] = {}
        self._features: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}

    def take(self, row: int, fields: tuple[str, ...]) -> None:
        """Take a row of the corpus, unless it belongs to another data set or chunk."""
        if len(fields) < 3 or not fields[2]:
            raise self._broken(row, "needs image key, label key and a text")
        image_key, label_key = fields[:2]
        key = parse_image_key(image_key)
        if dataset_of(image_key) not in self._parts.labels:
            return
        if key is None:
            raise self._broken(row, f"image key {image_key!r} has too few pieces")
        if key.chunk and self._chunks is not None and key.chunk not in self._chunks:
            return
        answer = self._answer_row(row, key, label_key)
        if image_key not in self._seen:
            self._seen[image_key] = self._image(row, image_key, key)
        parts = self._parts
        parts.rows.append(row)
        parts.images.append(self._seen[image_key])
        parts.answers.append(answer)

    def _answer_row(self, row: int, key: ImageKey, label_key: str) -> int:
        label = parse_label_key(label_key)
        if label is None or (label.dataset, label.image) != (key.dataset, key.image):
            raise self._broken(row, f"label key {label_key!r} is about another image")
        if not label.question:
            return _NO_QUESTION
        if key.dataset not in self._answer_rows:
            folder = self._parts.label_folder(key.dataset)
            table = KeyedTable(folder, "QA_fileB.tsv", "QA_qaid2idx.json")
            self._parts.answer_tables[key.dataset] = table
            self._answer_rows[key.dataset] = table.numbers()
        found = self._answer_rows[key.dataset].get(label.question)
        if found is None:
            raise self._broken(row, f"question {label.question!r} is not in the list of answers")
        return found

    def _image(self, row: int, image_key: str, key: ImageKey) -> int:
        label_row = self._label_rows[key.dataset].get(key.image)
        if label_row is None:
            raise self._broken(row, f"image {key.image!r} has no labels")
        table, numbers = self._feature_table(row, key)
        feature_row = numbers.get(key.image)
        if feature_row is None:
            raise self._broken(row, f"image {key.image!r} has no features")
        parts = self._parts
        parts.image_keys.append(image_key)
        parts.label_rows.append(label_row)
        parts.feature_places.extend((table, feature_row))
        return len(parts.image_keys) - 1

    def _feature_table(self, row: int, key: ImageKey) -> tuple[int, dict[str, int]]:
        place = (key.dataset, key.chunk)
        if place not in self._features:
            parts = self._parts
            folder = parts.place / parts.settings.features[key.dataset] / key.chunk
            if not folder.is_dir():
                raise MissingFileError(f"{folder}: no such folder ({self._at(row)})")
            table = FeatureTable(folder)
            parts.feature_tables.append(table)
            self._features[place] = (len(parts.feature_tables) - 1, table.numbers())
        return self._features[place]

    def _broken(self, row: int, said: str) -> AnnotationError:
        return AnnotationError(f"{self._at(row)}: {said}")

    def _at(self, row: int) -> str:
        return f"{self._parts.table.path}: row {row}"


def _parsed(image_key: str) -> ImageKey:
    key = parse_image_key(image_key)
    assert key is not None, image_key  # looked at when the corpus was opened
    return key


def _int32(numbers: "array[int]") -> NDArray[np.int32]:
    return np.array(numbers, dtype=np.int32)
