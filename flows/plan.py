"""The order of things as data: steps, what each takes from which, and what may run side by side.

A step's input reads `step.output` (a folder or file in the other step's folder), `step` (that
whole folder), either with `/name/below` behind it, or is a `Path` from outside the run. Nothing
here starts or reads anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.errors import PlanError
from flows.limits import NO_LIMITS, StageLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One stage at its place in a plan.

    name:          unique in the plan; its folder is named after it
    stage:         module of `flows.stages`, or a full dotted module name
    config:        an instance of the stage's `Config`
    inputs:        input name -> `step.output`, `step`, or a file or folder from outside, which
                   counts by its content; `group:name` fills a mapping
    after:         steps that must be over first though nothing is taken from them
    limits:        how long it may work and be silent, and how often it is tried again
    """

    name: str
    stage: str
    config: object
    inputs: Mapping[str, str | Path] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    limits: StageLimits = NO_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an input comes from.

    output: one of the step's outputs, "" for its whole folder
    inside: path below that, "" for all of it
    """

    step: str
    output: str
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order in which they could run one by one."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Check that names are unique and that every step only looks back."""
        known: set[str] = set()
        for step in self.steps:
            if step.name in known:
                raise PlanError(f"two steps are named {step.name!r}")
            for needed in _needs(step, self.names):
                if needed not in known:
                    raise PlanError(f"step {step.name!r} needs {needed!r}, which comes later")
            known.add(step.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all steps, in order."""
        return tuple(step.name for step in self.steps)

    def step(self, name: str) -> Step:
        """The step of that name.

        Raises:
            PlanError: There is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise PlanError(f"no step {name!r}; there are {', '.join(self.names)}")

    def needs(self, name: str) -> frozenset[str]:
        """Steps that must be over before this one starts."""
        return _needs(self.step(name), self.names)

    def ancestors(self, name: str) -> frozenset[str]:
        """All steps this one stands on, near and far."""
        found: set[str] = set()
        waiting = set(self.needs(name))
        while waiting:
            found |= waiting
            waiting = {far for near in waiting for far in self.needs(near)} - found
        return frozenset(found)

    def has_company(self, name: str) -> bool:
        """Whether another step may run at the same time; decides threads, not order.

        It depends on the plan alone, never on what is already done, so a resumed run computes
        with the same number of threads as an unbroken one.
        """
        above = self.ancestors(name)
        return any(
            other != name and other not in above and name not in self.ancestors(other)
            for other in self.names
        )


def source_of(reference: str, names: tuple[str, ...]) -> Source:
    """Split `step.output/inside`; step names may hold dots, but no slash.

    Raises:
        PlanError: No step of that name.
    """
    head, _, inside = reference.partition("/")
    if head in names:
        return Source(step=head, output="", inside=inside)
    step, _, output = head.rpartition(".")
    if step not in names:
        raise PlanError(f"input {reference!r} names no step; there are {', '.join(names)}")
    return Source(step=step, output=output, inside=inside)


def _needs(step: Step, names: tuple[str, ...]) -> frozenset[str]:
    references = [each for each in step.inputs.values() if isinstance(each, str)]
    return frozenset({source_of(each, names).step for each in references} | set(step.after))
