"""A fault, and the row of the table that tells how a run took it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.fault_cases.ground import Ground

EQUAL = "equal"


class NotInjectedError(Exception):
    """The fault did not happen, so nothing was shown: the row does not count as survived."""


class NotPossibleError(Exception):
    """This machine cannot make the fault (no compiler, no mounts): left out, and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How a run took one fault.

    name:       of the fault, and where it struck
    done:       what was done to the run
    proof:      how it is known that the fault happened; "" when it did not
    happened:   exit status and last line of the disturbed start, and what it took to go on
    rerun:      steps that were worked on after the fault
    metrics:    `EQUAL`, "equal within ...", or how they differ from the undisturbed run's
    complaints: what was lost, counted twice, done again for nothing, or left alive
    seconds:    the row took
    """

    name: str
    done: str
    proof: str
    happened: str
    rerun: tuple[str, ...] = ()
    metrics: str = ""
    complaints: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def is_survived(self) -> bool:
        """Whether it happened, the metrics are the undisturbed run's, and nothing is amiss."""
        return bool(self.proof) and self.metrics.startswith(EQUAL) and not self.complaints

    def with_complaints(self, found: Sequence[str], *, happened: str) -> "Row":
        """The same row with what was looked at afterwards."""
        return replace(self, complaints=(*self.complaints, *found), happened=happened)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    name:     unique; rows of one fault in several steps begin with it
    inject:   makes it happen in runs of its own and yields the rows
    is_short: part of the selection that runs with the tests
    """

    name: str
    inject: "Callable[[Ground], Iterator[Row]]"
    is_short: bool = False
