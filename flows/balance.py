"""What every stage holds: in = out + quarantined."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

_Record = TypeVar("_Record")


class LostRecordsError(AssertionError):
    """A stage read what it neither wrote nor set aside: a mistake of ours."""


def check_balance(stage: str, *, num_in: int, num_out: int, num_quarantined: int) -> None:
    """Compare what was counted where it was read with what was counted where it was written.

    Raises:
        LostRecordsError: They differ.
    """
    if num_in != num_out + num_quarantined:
        raise LostRecordsError(
            f"{stage}: {num_in} read, {num_out} written and {num_quarantined} set aside; "
            "please report this"
        )


class Counting(Generic[_Record]):
    """Counts what it hands on.

    num: records so far
    """

    def __init__(self) -> None:
        self.num = 0

    def through(self, records: Iterable[_Record]) -> Iterator[_Record]:
        """The records, one after the other."""
        for record in records:
            self.num += 1
            yield record
