"""What was set aside, by step and reason, with the first few of each."""

from collections.abc import Mapping

from flows.report.finished import FinishedStep
from flows.report.records import DroppedGroup
from storage.quarantine import count_reasons

NUM_ENTRIES = 6


def dropped_groups(steps: Mapping[str, FinishedStep]) -> tuple[DroppedGroup, ...]:
    """Groups in the order of the steps, the most frequent reason of a step first."""
    groups = []
    for step in steps.values():
        entries = step.quarantine()
        for reason, count in count_reasons(entries).items():
            own = [entry for entry in entries if entry.reason == reason]
            groups.append(
                DroppedGroup(
                    step=step.name,
                    reason=reason,
                    count=count,
                    entries=tuple(
                        f"{entry.image_id}: {entry.detail}" if entry.image_id else entry.detail
                        for entry in own[:NUM_ENTRIES]
                    ),
                )
            )
    return tuple(groups)
