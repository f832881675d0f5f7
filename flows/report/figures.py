"""Charts as inline SVG, drawn by hand: they take their colours from the page's style sheet."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from flows.report.records import Curve, LossChart

_WIDTH, _HEIGHT = 420, 232
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 104, 14, 30
_LABEL_GAP = 14
_TICKS = 4
_HIGH_SHARE = 0.97
"""The axis ends at this quantile of the values: a few wild first steps do not flatten the rest."""


def loss_figure(chart: LossChart) -> Markup:
    """Curves over steps with their names at the right end; text says the same in words."""
    last = max(curve.steps[-1] for curve in chart.curves)
    first = min(curve.steps[0] for curve in chart.curves)
    top = _nice_top([value for curve in chart.curves for value in curve.values])
    names = ", ".join(
        f"{curve.name} from {curve.values[0]:.2f} to {curve.values[-1]:.2f}"
        for curve in chart.curves
    )
    told = f"{chart.title}: {names} in {last} steps"
    body = [*_grid(top), *_steps_axis(first, last)]
    ends = _label_places([_y(curve.values[-1], top) for curve in chart.curves])
    for number, (curve, place) in reversed(list(enumerate(zip(chart.curves, ends, strict=True)))):
        body += _curve(number, curve, place, (first, last), top)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(told)}">{"".join(body)}</svg>'
    )


def _grid(top: float) -> list[str]:
    lines = []
    for at in range(_TICKS + 1):
        value = top * at / _TICKS
        y = _y(value, top)
        kind = "axis" if at == 0 else "grid"
        lines.append(f'<path class="{kind}" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{_number(value)}</text>"
        )
    return lines


def _steps_axis(first: int, last: int) -> list[str]:
    y = _HEIGHT - _BOTTOM + 17
    lines = []
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        step = round(first + share * (last - first))
        x = _x(step, (first, last))
        text = f"{step:,}" + (" steps" if share == 1 else "")
        lines.append(f'<text class="tick" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>')
    return lines


def _curve(number: int, curve: Curve, place: float, span: tuple[int, int], top: float) -> list[str]:
    points = " ".join(
        f"{_x(step, span):.1f},{_y(value, top):.1f}"
        for step, value in zip(curve.steps, curve.values, strict=True)
    )
    x, y = _WIDTH - _RIGHT, _y(curve.values[-1], top)
    name = escape(_short(curve.name.replace("_", " ")))
    return [
        f'<polyline class="line s{number}" points="{points}"/>',
        f'<path class="leader" d="M{x + 2} {y:.1f}L{x + 9} {place:.1f}"/>',
        f'<text class="name t{number}" x="{x + 12}" y="{place + 3.5:.1f}">{name} '
        f'<tspan class="end">{curve.values[-1]:.2f}</tspan></text>',
    ]


def _label_places(wanted: Sequence[float]) -> list[float]:
    """Heights for labels, near the wanted ones, none on top of another, in the same order."""
    order = sorted(range(len(wanted)), key=lambda at: (wanted[at], at))
    places = [0.0] * len(wanted)
    last = -math.inf
    for at in order:
        last = max(wanted[at], last + _LABEL_GAP, _TOP)
        places[at] = last
    over = last - (_HEIGHT - _BOTTOM)
    if over > 0:  # push the lowest ones up again
        ceiling = float(_HEIGHT - _BOTTOM)
        for at in reversed(order):
            places[at] = min(places[at], ceiling)
            ceiling = places[at] - _LABEL_GAP
    return places


def _nice_top(values: Sequence[float]) -> float:
    """A round number at or above nearly all values, divisible by the ticks."""
    high = sorted(values)[min(len(values) - 1, int(_HIGH_SHARE * len(values)))]
    if high <= 0:
        return 1.0
    unit = 10 ** math.floor(math.log10(high / _TICKS))
    for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if unit * step * _TICKS >= high * (1 - 1e-9):
            return unit * step * _TICKS
    return high


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"


def _short(name: str) -> str:
    return name if len(name) <= 11 else f"{name[:10]}…"


def _x(step: int, span: tuple[int, int]) -> float:
    first, last = span
    share = (step - first) / (last - first) if last > first else 1.0
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    share = min(1.0, max(0.0, value / top))
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
