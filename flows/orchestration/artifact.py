"""One thing that Prefect's pages show beside a run's states; what there is: `artifacts.py`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One thing to show.

    key:     lower case, digits and dashes; the same key again is a new version
    content: text, of a table JSON; of progress per cent
    """

    key: str
    kind: Literal["markdown", "table", "progress"]
    content: str | float
    description: str


def key_of(what: str, step: str) -> str:
    """`losses`, `vqa_train` -> "losses-vqa-train"."""
    letters = (each if each.isascii() and each.isalnum() else "-" for each in step.lower())
    return f"{what}-{''.join(letters)}"
