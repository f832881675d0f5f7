"""Images with questions and answers."""

from collections.abc import Iterator, Sequence

from oscar_core.errors import TaskError
from oscar_core.metrics.answers import (
    build_answer_vocabulary,
    main_answer,
    soft_targets,
    vocabulary_form,
)
from oscar_core.task import Group, Phase
from oscar_core.tasks.vqa.records import Config, Example
from oscar_core.views import Views
from storage.library import Library
from storage.records import QuestionAnnotation


def texts(config: Config, library: Library) -> Iterator[str]:
    """Questions, answers and tags of the training split."""
    for question in library.questions("train", config.language):
        yield question.question
        yield from question.answers
    for image_id in library.image_ids("train"):
        yield from library.tags_of(image_id).tags


def answers(config: Config, library: Library) -> tuple[str, ...]:
    """The answers that are the most common one of enough training questions.

    Raises:
        TaskError: No answer is common enough.
    """
    asked = _answered(config, library, "train")
    found = build_answer_vocabulary(
        [main_answer(each.answers) for each in asked], min_questions=config.min_questions
    )
    if not found:
        raise TaskError(
            f"vqa: none of {len(asked)} training questions has an answer that occurs "
            f"{config.min_questions} times; lower min_questions"
        )
    return found


def examples(config: Config, library: Library, split: str) -> list[Example]:
    """One example a question; to learn from only where the answer can be chosen.

    Raises:
        TaskError: The split has no such question.
    """
    views = Views(library, config.view)
    known = None
    if split == "train":
        known = {answer: number for number, answer in enumerate(answers(config, library))}
    found = []
    for each in library.questions(split, config.language):
        targets = {} if known is None else targets_of(each.answers, known)
        if targets or (known is None and each.answers):
            found.append(
                Example(
                    question_id=each.question_id,
                    image_id=each.image_id,
                    question=each.question,
                    question_type=each.question_type,
                    answers=each.answers,
                    targets=targets,
                    views=views,
                )
            )
    if not found:
        raise TaskError(
            f"vqa: no question of split {split!r} in {config.language!r} has a known answer"
        )
    return found


def phases(config: Config, examples: Sequence[Example]) -> tuple[Phase, ...]:
    """All questions alike."""
    return (Phase(name="questions", groups=(Group(indices=range(len(examples))),)),)


def targets_of(answers: Sequence[str], known: dict[str, int]) -> dict[str, float]:
    """Soft score of each answer that can be chosen; the one answer of a single person counts 1."""
    forms = [vocabulary_form(answer) for answer in answers]
    if len(forms) == 1:
        return {forms[0]: 1.0} if forms[0] in known else {}
    return soft_targets(forms, known)


def _answered(config: Config, library: Library, split: str) -> list[QuestionAnnotation]:
    return [each for each in library.questions(split, config.language) if each.answers]
