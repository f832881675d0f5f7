"""What the stage `translate_texts` works through: which records, which sentences, which words."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from oscar_core.translation_checks import is_number
from storage.records import CaptionAnnotation, Quarantined, QuestionAnnotation
from storage.seen import SeenKeys
from storage.sentence_cache import Rendering, SentenceCache
from translation.dictionary import open_dictionary
from translation.glossary import Glossary, GlossaryCount
from translation.lexicon import Kind

Said = CaptionAnnotation | QuestionAnnotation
_AT_ONCE = 1_024
_SENTENCES_AT_ONCE = 1 << 16
_COLOUR = ("color", "colour")
YES_AND_NO = {"yes": "是", "no": "否"}
"""Answers that no lexicon of things holds."""
_CLOSING = "。."


class Translator(Protocol):
    """What makes sentences; `oscar_core.sentence_translation.SentenceTranslator`."""

    def translate(self, sentences: Sequence[str]) -> list[Rendering]:
        """One rendering a sentence."""
        ...


class AnswerWords:
    """Answers that need no model: numbers stay, and words of the lexicon are said as tags say them.

    A model that has no sentence around it renders single words by chance; and the same thing should
    have the same name as a tag and as an answer.
    """

    def __init__(self, domain: str) -> None:
        """Open the lexicon.

        Raises:
            DictionaryError: It has no such domain.
        """
        self._dictionary = open_dictionary(domain=domain)

    def known(self, question: str, answer: str) -> str | None:
        """The Chinese of an answer; None where a model has to say it.

        A word that is thing and attribute ("orange") is an attribute where a colour is asked for.
        """
        plain = answer.strip()
        if is_number(plain):
            return plain
        short = plain.lower().rstrip(".")
        if short in YES_AND_NO:
            return YES_AND_NO[short]
        asks_colour = any(word in question.lower() for word in _COLOUR)
        kind: Kind = "attribute" if asks_colour else "object"
        found = self._dictionary.translate([plain], kind)[0]
        return found.chinese if found.is_covered else None


@dataclass(slots=True)
class Tally:
    """What came of the sentences.

    num_cached: known from earlier, this run's interrupted attempts included
    problems:   reason -> sentences
    """

    num_sentences: int = 0
    num_cached: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    glossary: GlossaryCount = field(default_factory=GlossaryCount)


def waiting(records: Iterable[Said], source: str, target: str, sources: Sequence[str]) -> "Wanted":
    """Which records are to be translated: those of one language that are not there in the other.

    Args:
        records: captions or questions.
        source: language they are in.
        target: language they should be in.
        sources: data sets that count; () for all.
    """
    known = SeenKeys()
    for each in records:
        if each.language == target:
            known.add(_key(each))
    return Wanted(records=records, known=known, language=source, sources=frozenset(sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Records to be translated, gone through as often as needed.

    known: keys of those that are there in the other language already
    """

    records: Iterable[Said]
    known: SeenKeys
    language: str
    sources: frozenset[str]

    def __iter__(self) -> Iterator[Said]:
        for each in self.records:
            is_wanted = not self.sources or each.source in self.sources
            if is_wanted and each.language == self.language and _key(each) not in self.known:
                yield each


def sentences_of(records: Iterable[Said], words: AnswerWords | None) -> Iterator[str]:
    """Everything a model has to say for some records, repetitions included."""
    for record in records:
        if isinstance(record, CaptionAnnotation):
            yield record.text
        else:
            yield record.question
            yield from (
                answer
                for answer in dict.fromkeys(record.answers)
                if words is None or words.known(record.question, answer) is None
            )


def distinct_by_length(sentences: Iterable[str]) -> pa.Array:
    """Each sentence once, the short ones first, so that a batch holds sentences of one length."""
    parts = [pa.array([], pa.large_string())]
    stream = iter(sentences)
    while part := list(islice(stream, _SENTENCES_AT_ONCE)):
        parts.append(pc.unique(pa.array(part, pa.large_string())))
    table = pa.table({"sentence": pc.unique(pa.chunked_array(parts))})
    table = table.append_column("length", pc.utf8_length(table.column("sentence")))
    order = pc.sort_indices(table, sort_keys=[("length", "ascending"), ("sentence", "ascending")])
    return table.column("sentence").take(order).combine_chunks()


def render_all(
    sentences: pa.Array,
    cache: SentenceCache,
    make_translator: Callable[[], Translator],
    *,
    batch_size: int,
    glossary: Glossary,
    on_batch: Callable[[int, int], None],
) -> Tally:
    """Translate what the cache does not know, batch by batch; each batch is kept at once.

    Batches are cut before anything is looked up, so that an interrupted run meets the same ones
    and ends with the same sentences as one that was not.

    Args:
        sentences: `distinct_by_length`.
        cache: of this model, these languages and settings.
        make_translator: called when the first unknown sentence is met.
        batch_size: sentences at once.
        glossary: words to be looked for in good translations.
        on_batch: told (done, total) sentences.
    """
    tally = Tally(num_sentences=len(sentences))
    translator: Translator | None = None
    on_batch(0, len(sentences))
    for start in range(0, len(sentences), batch_size):
        batch: list[str] = sentences.slice(start, batch_size).to_pylist()
        found = cache.find(batch)
        tally.num_cached += len(found)
        new = [each for each in batch if each not in found]
        if new:
            translator = translator or make_translator()
            made = dict(zip(new, translator.translate(new), strict=True))
            cache.keep(made)
            found |= made
        for sentence in batch:
            _count(tally, glossary, sentence, found[sentence])
        on_batch(start + len(batch), len(sentences))
    return tally


def translated(
    records: Iterable[Said], cache: SentenceCache, words: AnswerWords | None, language: str
) -> Iterator[Said | Quarantined]:
    """Each record in the other language, or why it cannot be had; as many come out as go in."""
    stream = iter(records)
    while chunk := list(islice(stream, _AT_ONCE)):
        found = cache.find(list(dict.fromkeys(sentences_of(chunk, words))))
        for record in chunk:
            if isinstance(record, CaptionAnnotation):
                yield _caption(record, found, language)
            else:
                yield _question(record, found, words, language)


def _caption(
    caption: CaptionAnnotation, found: Mapping[str, Rendering], language: str
) -> CaptionAnnotation | Quarantined:
    rendering = found[caption.text]
    if rendering.problem:
        return _dropped(caption, caption.caption_id, caption.text, rendering)
    return replace(caption, text=rendering.text, language=language)


def _question(
    question: QuestionAnnotation,
    found: Mapping[str, Rendering],
    words: AnswerWords | None,
    language: str,
) -> QuestionAnnotation | Quarantined:
    """A question needs itself and, where it has answers, one of them."""
    rendering = found[question.question]
    if rendering.problem:
        return _dropped(question, question.question_id, question.question, rendering)
    answers: list[str] = []
    last = rendering
    for answer in question.answers:
        known = words.known(question.question, answer) if words is not None else None
        last = Rendering(text=known) if known is not None else found[answer]
        if not last.problem:
            answers.append(last.text if known is not None else last.text.rstrip(_CLOSING))
    if question.answers and not answers:
        return _dropped(question, question.question_id, question.answers[-1], last)
    return replace(question, question=rendering.text, answers=tuple(answers), language=language)


def _dropped(record: Said, own_id: str, sentence: str, rendering: Rendering) -> Quarantined:
    became = f"{sentence[:80]!r} became {rendering.text[:80]!r}"
    return Quarantined(
        image_id=record.image_id,
        reason=f"translation-{rendering.problem}",
        detail=f"{record.source} {own_id}: {became}",
    )


def _count(tally: Tally, glossary: Glossary, sentence: str, rendering: Rendering) -> None:
    if rendering.problem:
        tally.problems[rendering.problem] += 1
    else:
        tally.glossary.add(glossary, sentence, rendering.text)


def _key(record: Said) -> str:
    own = record.caption_id if isinstance(record, CaptionAnnotation) else record.question_id
    return "\0".join((record.source, own, record.image_id))
