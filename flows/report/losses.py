"""Reads the losses of every training of a run, thinned so that a page can hold them."""

from collections.abc import Mapping
from itertools import pairwise

from flows.report.finished import FinishedStep, is_number, read_rows
from flows.report.records import Curve, LossChart, PhaseMark
from flows.report.timing import step_title

MAX_POINTS = 160
MAX_CURVES = 7

_TITLES = {
    "words": "masked words",
    "contrast": "text and photo match",
    "contrast_accuracy": "matches told right",
}
"""Both published objectives in words; other names are words already."""
_TOTALS = ("total", "loss")
_NOT_LOSSES = frozenset(
    {"step", "epoch", "seconds", "time", "learning_rate", "lr", "phase", "gradient_norm"}
)


def read_loss_charts(steps: Mapping[str, FinishedStep]) -> tuple[LossChart, ...]:
    """One chart for each step that kept its losses."""
    charts = []
    for step in steps.values():
        curves = _curves(step)
        if curves:
            charts.append(
                LossChart(
                    step=step.name,
                    title=step_title(step.name),
                    curves=curves,
                    phases=_phases(step),
                )
            )
    return tuple(charts)


def curve_title(name: str) -> str:
    """A curve as the page names it."""
    return _TITLES.get(name, name.replace("_", " "))


def thin(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """Means of equal runs of points, at most `max_points`; each mean at the run's last step."""
    num = len(curve.values)
    if num <= max_points:
        return curve
    edges = [round(at * num / max_points) for at in range(max_points + 1)]
    pieces = list(pairwise(edges))
    return Curve(
        name=curve.name,
        steps=tuple(curve.steps[end - 1] for _, end in pieces),
        values=tuple(sum(curve.values[begin:end]) / (end - begin) for begin, end in pieces),
    )


def _curves(step: FinishedStep) -> tuple[Curve, ...]:
    """The sum first, then its parts in the order of the file; a repeated step counts once."""
    points: dict[str, dict[int, float]] = {}
    for row in read_rows(step.find("losses.jsonl", "losses")):
        number = row.get("step")
        if not isinstance(number, int):
            continue
        for name, value in row.items():
            if name not in _NOT_LOSSES and is_number(value):
                points.setdefault(name, {})[number] = float(value)
    total = next((name for name in _TOTALS if name in points), None)
    names = ([total] if total else []) + [name for name in points if name != total]
    return tuple(
        thin(Curve(name=name, steps=tuple(found), values=tuple(found[at] for at in found)))
        for name in names[:MAX_CURVES]
        for found in [dict(sorted(points[name].items()))]
    )


def _phases(step: FinishedStep) -> tuple[PhaseMark, ...]:
    """Where each phase began; () where there is only one."""
    names: dict[int, str] = {}
    for row in read_rows(step.find("losses.jsonl", "losses")):
        name, number = row.get("phase"), row.get("step")
        if isinstance(name, str) and isinstance(number, int):
            names[number] = name
    marks: list[PhaseMark] = []
    for number, name in sorted(names.items()):
        if not marks or marks[-1].name != name:
            marks.append(PhaseMark(name=name, step=number))
    return tuple(marks) if len(marks) > 1 else ()
