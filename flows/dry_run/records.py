"""What a dry run finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UNKNOWN = "not estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What annotation sources say about the photos of a run.

    captions:        (split, language) -> how many
    questions:       (split, language) -> how many, those with answers
    captioned:       (split, language) -> photos with captions
    num_boxed:       photos with boxes
    vocabulary_size: of a vocabulary made of all these texts
    """

    captions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    questions: Mapping[tuple[str, str], int] = field(default_factory=dict)
    captioned: Mapping[tuple[str, str], int] = field(default_factory=dict)
    num_boxed: int = 0
    vocabulary_size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one step will take.

    amount:       of work, in words
    seconds:      of wall time; None where nobody knows
    memory_bytes: of one process at its highest; 0 where it does not matter
    disk_bytes:   that lie there at the most while it works
    how:          where the numbers come from
    is_done:      nothing is left to do
    """

    step: str
    amount: str
    seconds: float | None = None
    memory_bytes: int = 0
    disk_bytes: int = 0
    how: str = ""
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that was found.

    problems: what would stop the run, or waste it; one line each
    notes:    what one should know before a long run
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    estimates: tuple[Estimate, ...]
