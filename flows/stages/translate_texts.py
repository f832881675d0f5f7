"""Stage: captions, questions and answers -> the same and their Chinese, by a translation model.

Every sentence is translated once. What was made is kept in the user's cache by the SHA-256 of
model, languages, settings and sentence, a batch at a time: an interrupted run goes on behind its
last batch, and another run with the same model asks it only for sentences that are new.
Translations that are none are set aside and counted; words of the tag lexicon whose Chinese a
translation lacks are counted and listed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from flows.balance import Counting, check_balance
from flows.file_sources import FileSource
from flows.progress import SILENT, Progress
from oscar_core.translation_checks import CHINESE
from oscar_core.translation_settings import Decoding, Direction
from storage.artifacts import atomic_write_json
from storage.quarantine import QUARANTINE_NAME, count_reasons, write_quarantine
from storage.records import Annotations, CaptionAnnotation, Quarantined, QuestionAnnotation
from storage.sources import cache_folder, local_path
from translation.lexicon import GENERAL, OWN_LEXICON

if TYPE_CHECKING:
    from flows.text_translation import Said, Wanted

VERSION = 1
USES_DEVICE = True
SHRINKABLE = ("batch_size",)
PACKAGE_FILES = {"lexicon": OWN_LEXICON}
"""Part of the stage's identity: it translates answers, and is what sentences are compared with."""
SENTENCES = "sentences.sqlite"
"""Name of the file in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `translate_texts`.

    model:     folder or hub name of any transformers sequence-to-sequence model with its tokenizer
               (Marian, NLLB, MBART, M2M100, T5, ...)
    direction: languages, and how the model names them
    decoding:  beams and lengths
    batch_size: sentences at once
    captions, questions: which kinds are translated; answers go with their questions
    sources:   data sets that are translated; empty for all
    answers_from_lexicon: single words the lexicon knows are said as tags say them, numbers stay
    domain:    of the lexicon
    """

    model: FileSource
    direction: Direction = field(default_factory=Direction)
    decoding: Decoding = field(default_factory=Decoding)
    batch_size: int = 32
    captions: bool = True
    questions: bool = True
    sources: tuple[str, ...] = ()
    answers_from_lexicon: bool = True
    domain: str = GENERAL

    def __post_init__(self) -> None:
        """Leave something to be done."""
        if self.batch_size < 1:
            raise ValueError("batch_size must be 1 or more")
        if self.direction.source == self.direction.target:
            raise ValueError("direction: source and target are the same language")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    annotations: Path
    report: Path = Path("translations.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """num_in: captions and questions to be translated; what came with them is passed on.

    num_sentences: different ones; num_cached: of these, known before this attempt
    """

    num_in: int
    num_out: int
    num_quarantined: int
    num_sentences: int
    num_cached: int
    num_glossary_words: int
    num_glossary_missing: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Translate, and write everything there was with the translations behind it.

    Raises:
        SentenceTranslationError: The folder holds no model, or it does not know the languages.
        StorageError: The annotations are damaged.
    """
    from flows.text_translation import (
        AnswerWords,
        distinct_by_length,
        render_all,
        sentences_of,
        translated,
    )
    from oscar_core.sentence_translation import SentenceTranslator, identity_of
    from storage.annotation_shards import read_annotations
    from storage.sentence_cache import SentenceCache
    from translation.glossary import own_glossary

    annotations = read_annotations(inputs.annotations)
    direction = config.direction
    kinds = _kinds(config, annotations)
    by_words = config.answers_from_lexicon and direction.target == CHINESE
    words = AnswerWords(config.domain) if by_words else None
    model = local_path(config.model)
    identity = identity_of(model, direction, config.decoding)
    read: Counting[Said] = Counting()
    sentences = distinct_by_length(
        each for kind in kinds for each in sentences_of(read.through(kind), words)
    )
    with SentenceCache(cache_folder() / SENTENCES, identity) as cache:
        tally = render_all(
            sentences,
            cache,
            partial(SentenceTranslator, model, direction, config.decoding),
            batch_size=config.batch_size,
            glossary=own_glossary(config.domain),
            on_batch=lambda done, total: progress.at(done, total, unit="sentences"),
        )
        num_out, dropped = _write(
            outputs,
            annotations,
            [translated(each, cache, words, direction.target) for each in kinds],
        )
    num_dropped = write_quarantine(outputs.annotations.parent / QUARANTINE_NAME, dropped)
    check_balance("translate_texts", num_in=read.num, num_out=num_out, num_quarantined=num_dropped)
    report = {
        "languages": [direction.source, direction.target],
        "model": identity,
        "records": {"in": read.num, "out": num_out},
        "sentences": {"all": tally.num_sentences, "problems": dict(tally.problems)},
        "quarantined": count_reasons(dropped),
        "glossary": tally.glossary.as_json(),
    }
    atomic_write_json(outputs.report, report)
    return Summary(
        num_in=read.num,
        num_out=num_out,
        num_quarantined=num_dropped,
        num_sentences=tally.num_sentences,
        num_cached=tally.num_cached,
        num_glossary_words=tally.glossary.num_words,
        num_glossary_missing=tally.glossary.missing.total(),
    )


def _kinds(config: Config, annotations: Annotations) -> list["Wanted"]:
    """Captions and questions that are to be translated, as far as they are wanted."""
    from flows.text_translation import waiting

    source, target = config.direction.source, config.direction.target
    wanted: list[Sequence[CaptionAnnotation] | Sequence[QuestionAnnotation]] = []
    if config.captions:
        wanted.append(annotations.captions)
    if config.questions:
        wanted.append(annotations.questions)
    return [waiting(records, source, target, config.sources) for records in wanted]


def _write(
    outputs: Outputs,
    annotations: Annotations,
    kinds: Iterable[Iterable[CaptionAnnotation | QuestionAnnotation | Quarantined]],
) -> tuple[int, list[Quarantined]]:
    """All there was, then what was made of it.

    Returns:
        How many translations there are, and what cannot be had.
    """
    from storage.annotation_shards import AnnotationWriter

    num_out, dropped = 0, []
    with AnnotationWriter(outputs.annotations) as writer:
        for records in (
            annotations.captions,
            annotations.questions,
            annotations.pairs,
            annotations.objects,
        ):
            for record in records:
                writer.add(record)
        for made in chain.from_iterable(kinds):
            if isinstance(made, Quarantined):
                dropped.append(made)
            else:
                writer.add(made)
                num_out += 1
    return num_out, dropped
