"""Steps that did not go well at their first attempt: what happened each time."""

from collections.abc import Mapping

from flows.attempts import DONE, Attempt, attempts_at
from flows.report.finished import FinishedStep
from flows.report.records import AttemptRow, TriedStep
from flows.run_folder import RunFolder

NUM_SHOWN = 20
"""Latest attempts of a step that are told one by one."""


def tried_steps(steps: Mapping[str, FinishedStep]) -> tuple[TriedStep, ...]:
    """Steps of this run that needed more than one attempt, in the order given."""
    found = []
    for step in steps.values():
        made = attempts_at(RunFolder(step.folder.parent), step.name, step.fingerprint)
        if len(made) > 1:
            shown = made[-NUM_SHOWN:]
            found.append(
                TriedStep(
                    step=step.name,
                    num_attempts=len(made),
                    attempts=tuple(_row(each) for each in shown),
                )
            )
    return tuple(found)


def _row(attempt: Attempt) -> AttemptRow:
    notes = [attempt.message] if attempt.message else []
    if attempt.outcome == DONE and attempt.resumed:
        notes.append("went on where the one before stopped")
    if attempt.halvings:
        notes.append(f"batches divided by {2**attempt.halvings}, same results")
    return AttemptRow(
        number=attempt.number,
        began=attempt.began.replace("T", " ").removesuffix("Z"),
        seconds=attempt.seconds,
        outcome=attempt.outcome,
        is_done=attempt.outcome == DONE,
        note="; ".join(notes),
    )
