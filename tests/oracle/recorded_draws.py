"""Recorded corpora and random draws of the original's pretraining data, fed to our sample maker."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from oscar_core.compat import SampleCompat
from oscar_core.tasks.pretraining.records import Config, Corpus, Document, Example, Negatives
from oscar_core.tasks.pretraining.sample import Sample, make_sample
from oscar_core.tokens import Tokenizer, read_vocabulary
from oscar_core.views import View, ViewSettings
from storage.published.vinvl_corpus import PublishedCorpus, open_corpus
from tests.oracle.oscar_cases import ORIGINAL_LOSSES

NEGATIVES: Mapping[int, Negatives] = {0: "any", 1: "second", 2: "answers"}
"""`--textb_sample_mode`."""

ORIGINAL_SAMPLES = SampleCompat(
    keeps_same_image=True,
    keeps_equal_texts=True,
    pollutes_unread_answers=True,
    accepts_any_wrong_first=True,
    draws_special_tokens=True,
    spares_wrong_second_alone=True,
    takes_own_answers=True,
)


class RecordedDice:
    """Gives back recorded draws in order, and fails where another kind of draw was recorded."""

    def __init__(self, draws: Sequence[Sequence[Any]]) -> None:
        self._draws = draws
        self.num_used = 0

    def random(self) -> float:
        (value,) = self._next("random")
        return float(value)

    def below(self, num: int) -> int:
        kind = self._draws[self.num_used][0]
        *bounds, value = self._next(kind)
        first, end = (0, bounds[0]) if kind == "choice" else bounds
        assert (kind in ("choice", "randrange"), end - first) == (True, num), (kind, bounds, num)
        return int(value) - int(first)

    def _next(self, kind: str) -> Sequence[Any]:
        assert self.num_used < len(self._draws), f"{kind}: nothing was drawn any more"
        found, *rest = self._draws[self.num_used]
        assert found == kind, f"draw {self.num_used}: {found} was recorded, {kind} is wanted"
        self.num_used += 1
        return rest


class Shown(Mapping[str, View]):
    """Views of a published corpus: the stored features, box numbers included."""

    def __init__(self, corpus: PublishedCorpus, max_regions: int) -> None:
        self._corpus = corpus
        self._max_regions = max_regions

    def __getitem__(self, image_key: str) -> View:
        regions = self._corpus.regions(image_key)[: self._max_regions]
        return View(regions=regions, tags="", words=())

    def __iter__(self) -> Any:
        return iter(self._corpus.image_keys)

    def __len__(self) -> int:
        return len(self._corpus.image_keys)


class _OurDocuments(Sequence[Document]):
    """Published documents as ours."""

    def __init__(self, corpus: PublishedCorpus) -> None:
        self._published = corpus.documents

    def __len__(self) -> int:
        return len(self._published)

    @overload
    def __getitem__(self, number: int) -> Document: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Document]: ...
    def __getitem__(self, number: int | slice) -> Document | Sequence[Document]:
        if isinstance(number, slice):
            return [self[i] for i in range(len(self))[number]]
        found = self._published[number]
        return Document(
            image_id=found.image_key,
            first=found.first,
            second=found.second,
            is_question=found.is_question,
            kind="question" if found.is_question else "caption",
        )


class Recorded:
    """One data set of the original: its documents, and our samples of them."""

    def __init__(self, folder: Path, yaml: str, args: Mapping[str, Any], *, lower: bool) -> None:
        """Open a corpus.

        Args:
            folder: of the small corpus.
            yaml: its description.
            args: the original's options.
            lower: lower-case Latin letters.
        """
        self.published = open_corpus(
            folder / yaml,
            folder,
            use_gt_labels=bool(args.get("use_gtlabels", 1)),
            has_tags=bool(args.get("use_b", 1)),
            chunks=chunks_of(args),
        )
        self.config = config_of(args)
        self.tokenizer = tokenizer_of(folder, lower)
        self.corpus = Corpus(
            documents=_OurDocuments(self.published),
            image_numbers=self.published.image_numbers,
            members=range(len(self.published.documents)),
            answered=self.published.question_rows,
            negatives=self.config.negatives,
        )
        self._views = Shown(self.published, self.config.view.max_regions)

    def example(self, number: int) -> Example:
        return Example(
            number=number,
            document=self.corpus.documents[number],
            views=self._views,  # type: ignore[arg-type]  # whatever maps image ids to views
            corpus=self.corpus,
        )

    def sample(self, number: int, draws: Sequence[Sequence[Any]]) -> Sample:
        """The sample that recorded draws make of a document; all of them must be needed."""
        dice = RecordedDice(draws)
        made = make_sample(self.config, self.tokenizer, self.example(number), dice)
        assert dice.num_used == len(draws), f"{dice.num_used} of {len(draws)} draws are used"
        return made


def chunks_of(args: Mapping[str, Any]) -> tuple[int, int] | None:
    """Which chunks are read, the second one no more; None: all (specs/oscar.md 5.5)."""
    start, end = args.get("chunk_start_id", -1), args.get("chunk_end_id", -1)
    return (start, end) if 0 <= start <= end else None


def config_of(args: Mapping[str, Any]) -> Config:
    """The original's options as our settings, with all of its quirks."""
    return Config(
        view=ViewSettings(max_regions=args.get("max_img_seq_length", 50)),
        max_text=args.get("max_seq_length", 35),
        wrong_first=args.get("texta_false_prob", 0.0),
        negatives=NEGATIVES[args.get("textb_sample_mode", 0)],
        learns_mismatched=bool(args.get("mask_loss_for_unmatched", 1)),
        reads_second=bool(args.get("use_b", 1)),
        compat=ORIGINAL_SAMPLES,
        loss_compat=ORIGINAL_LOSSES,
    )


@cache
def tokenizer_of(folder: Path, lower: bool) -> Tokenizer:
    return read_vocabulary(folder / "tokenizer/vocab.txt", lower_case=lower)


def padded(values: Sequence[int], length: int, filling: int) -> list[int]:
    return [*values, *[filling] * (length - len(values))]


Fields = dict[str, "np.ndarray[Any, Any]"]


def fields_of(recorded: Recorded, number: int, sample: Sample) -> Fields:
    """A sample as the original lays it out, by its names."""
    config = recorded.config
    regions = recorded.example(number).view.regions
    text, slots = config.max_text, config.view.max_regions
    ids = [*sample.text.first, *sample.text.second]
    filled = np.zeros((slots, regions.shape[1]), np.float32)
    filled[: len(regions)] = regions
    segments = [0] * len(sample.text.first) + [1] * len(sample.text.second)
    labels = padded([*sample.first_labels, *sample.second_labels], text + slots, -1)
    shown = padded([1] * len(ids), text, 0) + padded([1] * len(regions), slots, 0)
    as_ints: Callable[[Any], Any] = lambda values: np.array(values, np.int64)  # noqa: E731  # short
    return {
        "input_ids": as_ints(padded(ids, text, 0)),
        "input_mask": as_ints(shown),
        "segment_ids": as_ints(padded(segments, text, 0)),
        "lm_label_ids": as_ints(labels),
        "is_next": as_ints(sample.label),
        "is_img_match": as_ints(sample.is_foreign),
        "img_feat": filled,
    }
