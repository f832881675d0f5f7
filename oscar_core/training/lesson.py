"""What is to be learned: the task, its settings, its material."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oscar_core.task import Knowledge, Phase, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One training's content; how it is learned says `TrainingConfig`.

    config:   the task's settings
    identity: of settings and examples; checkpoints name it
    """

    task: Task
    config: Any
    knowledge: Knowledge
    examples: Sequence[Any]
    phases: tuple[Phase, ...]
    identity: str
