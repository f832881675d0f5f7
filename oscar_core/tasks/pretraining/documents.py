"""Millions of documents as index arrays into what is stored; a record is made when asked for.

Letters: N documents.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from oscar_core.errors import TaskError
from oscar_core.tasks.pretraining.records import Config, Document
from oscar_core.views import Views
from storage.library import Library
from storage.selections import coded, lengths, values

CAPTION = "caption"
"""Kind of a document that is no question."""

_OF_CAPTIONS = ("image_id", "text")
_OF_QUESTIONS = ("image_id", "question", "answers", "question_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Documents in a row that come from one sequence of annotations.

    said: captions or questions
    rows: which of them, rising
    """

    said: Sequence[Any]
    rows: range | NDArray[np.int32]
    is_question: bool

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, column: NDArray[np.int32]) -> NDArray[np.int32]:
        """The chosen rows of a column."""
        return column if isinstance(self.rows, range) else np.asarray(column[self.rows])


class Documents(Sequence[Document]):
    """Captions, then questions, in the stored order, language after language.

    image_numbers:  (N,) int32, equal where the image is the same
    kind_numbers:   (N,) int16, into `kinds`
    source_numbers: (N,) int16, into `sources`, some of which may have weight 0 and no document
    num_captions:   the documents before the first question
    places:         by image number, row group of the stored regions, int32; None if not known
    """

    def __init__(self, config: Config, library: Library, views: Views, split: str) -> None:
        """Find the documents of a split.

        Raises:
            TaskError: `config.sources` names a source that says nothing.
        """
        self._views = views
        self._has_tags = config.reads_second
        self._stretches = tuple(_stretches(config, library, split))
        sizes = [len(each) for each in self._stretches]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.num_captions = sum(len(each) for each in self._stretches if not each.is_question)
        image_ids, self.image_numbers = self._column("image_id")
        self.kinds, kind_numbers = self._column("question_type")
        self.sources, source_numbers = self._column("source")
        self.kind_numbers = kind_numbers.astype(np.int16)
        self.source_numbers = source_numbers.astype(np.int16)
        self.places = views.row_groups(image_ids)
        if split == "train":
            self._check_sources(config)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, number: int) -> Document: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Document]: ...

    def __getitem__(self, number: int | slice) -> Document | Sequence[Document]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number %= len(self)
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        stretch = self._stretches[place]
        row = int(stretch.rows[number - int(self._starts[place])])
        made = self._question if stretch.is_question else self._caption
        return made(stretch.said, row)

    def _question(self, said: Sequence[Any], row: int) -> Document:
        image_id, question, answers, kind = values(said, row, _OF_QUESTIONS)
        answer = answers[0]
        if len(answers) > 1:
            (answer, _), *_ = Counter(answers).most_common(1)
        return Document(
            image_id=image_id, first=question, second=answer, is_question=True, kind=kind
        )

    def _caption(self, said: Sequence[Any], row: int) -> Document:
        image_id, text = values(said, row, _OF_CAPTIONS)
        return Document(
            image_id=image_id,
            first=text,
            second=self._views.tags(image_id) if self._has_tags else "",
            is_question=False,
            kind=CAPTION,
        )

    def _column(self, name: str) -> tuple[tuple[str, ...], NDArray[np.int32]]:
        """Distinct texts of a column, and which of them each document has."""
        known: dict[str, int] = {}
        parts: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
        for stretch in self._stretches:
            if name == "question_type" and not stretch.is_question:
                number = known.setdefault(CAPTION, len(known))
                parts.append(np.full(len(stretch), number, np.int32))
                continue
            column = coded(stretch.said, name)
            number_of = [known.setdefault(value, len(known)) for value in column.values]
            parts.append(np.array(number_of, np.int32)[stretch.of(column.codes)])
        return tuple(known), np.concatenate(parts)

    def label_words(self, members: range | NDArray[np.int32]) -> frozenset[str]:
        """Every word of the detector that the images of some documents bear."""
        _, firsts = np.unique(self.image_numbers[np.asarray(members)], return_index=True)
        shown = (self._views[self[int(members[place])].image_id] for place in firsts)
        return frozenset(word for view in shown for region in view.words for word in region)

    def _check_sources(self, config: Config) -> None:
        named = {*config.sources, *(config.extra.sources if config.extra else ())}
        odd = sorted(named - set(self.sources))
        if odd and self.sources:
            raise TaskError(
                f"pretraining: source {odd[0]!r} has no text here; there are "
                f"{', '.join(sorted(set(self.sources)))}"
            )


def tag_key(tags: str) -> str:
    """The same for the same tags in any order."""
    return " ".join(sorted(tags.split()))


def _stretches(config: Config, library: Library, split: str) -> Iterator[_Stretch]:
    """What is said in a split, without sources of weight 0 and questions without answers."""
    kinds = {False: library.captions, True: library.questions}
    for is_question, said_in in kinds.items():
        for language in config.languages:
            said = said_in(split, language)
            if not len(said):
                continue
            kept = _has_weight(config, said)
            if is_question:
                kept &= lengths(said, "answers") > 0
            rows = range(len(said)) if kept.all() else np.flatnonzero(kept).astype(np.int32)
            yield _Stretch(said=said, rows=rows, is_question=is_question)


def _has_weight(config: Config, said: Sequence[Any]) -> NDArray[np.bool_]:
    silenced = _silenced(config)
    if not silenced:
        return np.ones(len(said), np.bool_)
    sources = coded(said, "source")
    speaks = np.array([name not in silenced for name in sources.values], np.bool_)
    kept: NDArray[np.bool_] = speaks[sources.codes]
    return kept


def _silenced(config: Config) -> set[str]:
    return {name for name, weight in config.sources.items() if weight == 0}


def near_tags(documents: Documents, members: Iterable[int]) -> Mapping[str, tuple[int, ...]]:
    """Sorted tags -> the captions among `members` of the images that have just these.

    Tags that one image alone has are left out: they are near to nothing.
    """
    near: dict[str, list[int]] = {}
    for number in members:
        if number < documents.num_captions:
            near.setdefault(tag_key(documents[number].second), []).append(int(number))
    images = documents.image_numbers
    return {
        key: tuple(numbers)
        for key, numbers in near.items()
        if any(images[number] != images[numbers[0]] for number in numbers)
    }
