"""Whether a candidate's metrics are good enough to replace the current model's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.retrain_settings import Bound
from flows.typed import nearest

_ROUNDING = 1e-9
"""0.8 - 0.7 is a little more than 0.1 in binary; a bound does not mean that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One metric against its bound.

    candidate: its value; None where the run did not measure it
    current:   of the model that would be replaced; None where there is none, or it has no such
    bound:     what was asked, in words
    why:       why it does not hold; "" where it does
    """

    metric: str
    candidate: float | None
    current: float | None
    bound: str
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether the bound is kept."""
        return not self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All of a gate; without any bound everything passes."""

    judgements: tuple[Judgement, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether every bound holds."""
        return all(each.holds for each in self.judgements)

    @property
    def reason(self) -> str:
        """In one line, for the history and the terminal."""
        failed = [each.why for each in self.judgements if not each.holds]
        if failed:
            return "; ".join(failed)
        if not self.judgements:
            return "no gate is set"
        return "; ".join(f"{each.metric} {each.candidate:.4g}" for each in self.judgements)

    def rows(self) -> list[dict[str, str]]:
        """As a table, one row a metric."""
        return [
            {
                "metric": each.metric,
                "candidate": _number(each.candidate),
                "current": _number(each.current),
                "bound": each.bound,
                "holds": "yes" if each.holds else "no",
            }
            for each in self.judgements
        ]


def judge(
    gate: Mapping[str, Bound],
    candidate: Mapping[str, float],
    current: Mapping[str, float] | None,
) -> Verdict:
    """Hold a candidate's metrics against a gate.

    Args:
        gate: metric -> bound. Higher is taken to be better.
        candidate: metric -> value.
        current: of the current model; None where there is none. A metric that it does not have
            is not compared.
    """
    return Verdict(
        judgements=tuple(
            _judged(metric, bound, candidate, (current or {}).get(metric))
            for metric, bound in gate.items()
        )
    )


def _judged(
    metric: str, bound: Bound, candidate: Mapping[str, float], current: float | None
) -> Judgement:
    value = candidate.get(metric)
    if value is None:
        why = _not_measured(metric, list(candidate))
    elif bound.at_least is not None and value < bound.at_least - _ROUNDING:
        why = f"{metric} is {value:.4g}, at least {bound.at_least:g} was asked"
    elif (
        bound.may_fall is not None
        and current is not None
        and current - value > bound.may_fall + _ROUNDING
    ):
        why = (
            f"{metric} fell from {current:.4g} to {value:.4g}, "
            f"it may fall by {bound.may_fall:g} at most"
        )
    else:
        why = ""
    return Judgement(
        metric=metric, candidate=value, current=current, bound=_in_words(bound), why=why
    )


def _not_measured(metric: str, known: Sequence[str]) -> str:
    hint = nearest(metric, known).replace("key", "metric", 1)
    return f"retrain.gate: {metric} was not measured: {hint}"


def _in_words(bound: Bound) -> str:
    parts = []
    if bound.at_least is not None:
        parts.append(f"at least {bound.at_least:g}")
    if bound.may_fall is not None:
        parts.append(f"may fall by {bound.may_fall:g}")
    return ", ".join(parts) or "measured"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
