"""Why a section of the page is empty."""

from collections.abc import Mapping

from flows.report.finished import FinishedStep
from flows.report.records import GalleryEntry, LossChart, QuestionKind, Retrieval
from flows.report.stored import Stored
from storage.records import Annotations

_NO_BRANCH = "This run has no such branch."


def reasons(
    metrics: Mapping[str, float],
    stored: Stored,
    losses: tuple[LossChart, ...],
    shown: tuple[GalleryEntry, ...],
    captioned: FinishedStep | None,
    found: Retrieval | None,
    kinds: tuple[QuestionKind, ...],
) -> dict[str, str]:
    """Section -> why it is empty."""
    no_captions = (
        "No captions of these photos were given." if not stored.annotations.captions else _NO_BRANCH
    )
    no_questions = (
        "No questions about these photos were given."
        if not stored.annotations.questions
        else _NO_BRANCH
    )
    empty = {
        "measures": (
            not metrics,
            "Nothing was scored: no annotations of these photos were given, so there is nothing "
            "to compare with."
            if stored.annotations == Annotations()
            else "Nothing was scored in this run.",
        ),
        "losses": (not losses, "Nothing was trained in this run."),
        "gallery": (not shown, "No photo with regions could be shown."),
        "captions": (captioned is None, f"No caption was written. {no_captions}"),
        "retrieval": (found is None, f"Nothing was searched. {no_captions}"),
        "questions": (not kinds, f"Nothing was asked. {no_questions}"),
        "coverage": (not stored.tags, "No tags were translated in this run."),
    }
    return {section: reason for section, (is_empty, reason) in empty.items() if is_empty}
