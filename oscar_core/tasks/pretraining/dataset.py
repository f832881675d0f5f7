"""Documents of pretraining: captions with tags, questions with answers."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from oscar_core.errors import TaskError
from oscar_core.task import Group, Phase
from oscar_core.tasks.pretraining.records import Config, Corpus, Document, Example
from oscar_core.views import Views
from storage.library import Library

CAPTION = "caption"
"""Kind of a document that is no question."""


def texts(config: Config, library: Library) -> Iterator[str]:
    """Captions, questions, answers and tags of the training split."""
    for language in config.languages:
        for caption in library.captions("train", language):
            yield caption.text
        for question in library.questions("train", language):
            yield question.question
            yield from question.answers
    for image_id in library.image_ids("train"):
        said = library.tags_of(image_id)
        yield from said.tags
        yield from (word for words in said.attributes for word in words)


def answers(config: Config, library: Library) -> tuple[str, ...]:
    """None: answers are words here."""
    return ()


def examples(config: Config, library: Library, split: str) -> list[Example]:
    """One example a caption and one a question, in the stored order; questions alone to predict.

    Raises:
        TaskError: The split has neither.
    """
    views = Views(library, config.view)
    documents = list(_documents(config, library, views, split))
    if not documents:
        raise TaskError(
            f"pretraining: no caption or question of split {split!r} "
            f"in {' or '.join(config.languages)}"
        )
    corpus = _corpus(documents, views)
    return [
        Example(document=document, views=views, corpus=corpus)
        for document in documents
        if document.is_question or split == "train"
    ]


def phases(config: Config, examples: Sequence[Example]) -> tuple[Phase, ...]:
    """The mixture, after the opening phase of one kind of question if there is one.

    Raises:
        TaskError: The opening phase has no question to ask.
    """
    aside: set[str] = set()
    opening: tuple[Phase, ...] = ()
    if config.first is not None:
        images = list(dict.fromkeys(each.document.image_id for each in examples))
        aside = set(images[-config.first.num_probe_images :])
        asked = [
            index
            for index, each in enumerate(examples)
            if each.document.kind == config.first.question_type
        ]
        kept = [index for index in asked if examples[index].document.image_id not in aside]
        if not kept or len(kept) == len(asked):
            raise TaskError(
                f"pretraining: no questions of type {config.first.question_type!r} to begin with"
            )
        opening = (
            Phase(
                name=config.first.question_type,
                groups=(Group(indices=kept),),
                max_steps=config.first.max_steps,
                goal=config.first.goal,
                check_every=config.first.check_every,
                probe=sorted(set(asked) - set(kept)),
            ),
        )
    left = [i for i, each in enumerate(examples) if each.document.image_id not in aside]
    return (*opening, Phase(name="mixture", groups=_groups(config, examples, left)))


def _groups(
    config: Config, examples: Sequence[Example], indices: Sequence[int]
) -> tuple[Group, ...]:
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    for i in indices:
        document = examples[i].document
        kind = document.kind if config.balances_kinds else ""
        by_kind[kind if document.is_question else CAPTION].append(i)
    captions = by_kind.pop(CAPTION, [])
    if config.question_share is None or not captions or not by_kind:
        return (Group(indices=indices),)
    part = config.question_share / len(by_kind)
    groups = [Group(indices=captions, share=1 - config.question_share)]
    groups += [Group(indices=each, share=part) for each in by_kind.values()]
    return tuple(group for group in groups if group.share > 0)


def _documents(config: Config, library: Library, views: Views, split: str) -> Iterator[Document]:
    captions = [c for name in config.languages for c in library.captions(split, name)]
    for caption in captions:
        yield Document(
            image_id=caption.image_id,
            first=caption.text,
            second=views[caption.image_id].tags if config.reads_second else "",
            is_question=False,
            kind=CAPTION,
        )
    for question in [q for name in config.languages for q in library.questions(split, name)]:
        if question.answers:
            (answer, _), *_ = Counter(question.answers).most_common(1)
            yield Document(
                image_id=question.image_id,
                first=question.question,
                second=answer if config.reads_second else "",
                is_question=True,
                kind=question.question_type,
            )


def _corpus(documents: Sequence[Document], views: Views) -> Corpus:
    near: defaultdict[str, list[int]] = defaultdict(list)
    for index, document in enumerate(documents):
        if not document.is_question:
            near[tag_key(document.second)].append(index)
    seen = {document.image_id for document in documents}
    words = {word for name in seen for region in views[name].words for word in region}
    return Corpus(
        documents=tuple(documents),
        answered=tuple(i for i, document in enumerate(documents) if document.is_question),
        near={key: tuple(indices) for key, indices in near.items()},
        label_words=frozenset(words),
    )


def tag_key(tags: str) -> str:
    """The same for the same tags in any order."""
    return " ".join(sorted(tags.split()))
