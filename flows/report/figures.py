"""Charts as inline SVG, drawn by hand: they take their colours from the page's style sheet."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from flows.report.records import Curve, LossChart, PhaseMark

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 4, 20, 24
_TICKS = 4
_HIGH_SHARE = 0.97
_NOTHING = 1e-9
_WILD = 6
"""Where wild steps go this many times above that quantile of the sums, the axis ends at it."""


def loss_figure(chart: LossChart) -> Markup:
    """Curves over steps; the same in words for those who cannot see them."""
    last = max(curve.steps[-1] for curve in chart.curves)
    values = [value for curve in chart.curves for value in curve.values]
    top = _nice_top(max(values), chart.curves[0].values)
    names = ", ".join(
        f"{curve.name} from {curve.values[0]:.2f} to {curve.values[-1]:.2f}"
        for curve in chart.curves
    )
    told = escape(f"{chart.title}: {names} in {last} steps")
    marks = "".join(_phase(mark, last) for mark in chart.phases)
    window = escape(f"window-{chart.step}")
    lines = [_line(number, curve, last, top) for number, curve in enumerate(chart.curves)]
    return Markup(
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{told}">'
        f'<clipPath id="{window}"><rect x="{_LEFT}" y="{_TOP - 2}" '
        f'width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT - _TOP - _BOTTOM + 4}"/></clipPath>'
        f"{''.join(_grid(top))}{''.join(_steps_axis(last))}{marks}"
        f'<g clip-path="url(#{window})">{"".join(reversed(lines))}</g></svg>'
    )


def _grid(top: float) -> list[str]:
    lines = []
    for at in range(_TICKS + 1):
        value = top * at / _TICKS
        y = _y(value, top)
        kind = "axis" if at == 0 else "grid"
        lines.append(f'<path class="{kind}" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        lines.append(
            f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_number(value)}</text>"
        )
    return lines


def _steps_axis(last: int) -> list[str]:
    y = _HEIGHT - _BOTTOM + 17
    return [
        f'<text class="tick" x="{_x(step, last):.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'
        for step, anchor, text in (
            (0, "middle", "0"),
            (last // 2, "middle", f"{last // 2:,}"),
            (last, "end", f"{last:,} steps"),
        )
    ]


def _phase(mark: PhaseMark, last: int) -> str:
    x = _x(mark.step - 1, last)
    rule = (
        f'<path class="phase" d="M{x:.1f} {_TOP - 18}V{_HEIGHT - _BOTTOM}"/>'
        if mark.step > 1
        else ""
    )
    name = escape(mark.name.replace("_", " "))
    lines = rule if mark.step > 1 else ""
    return f'{lines}<text class="phase-name" x="{x + 4:.1f}" y="{_TOP - 8}">{name}</text>'


def _line(number: int, curve: Curve, last: int, top: float) -> str:
    points = " ".join(
        f"{_x(step, last):.1f},{_y(value, top):.1f}"
        for step, value in zip(curve.steps, curve.values, strict=True)
    )
    return f'<polyline class="line s{number}" points="{points}"/>'


def _nice_top(highest: float, totals: Sequence[float]) -> float:
    """A round number at or above the values, divisible by the ticks."""
    usual = sorted(totals)[min(len(totals) - 1, int(_HIGH_SHARE * len(totals)))]
    high = usual if highest > _WILD * usual > 0 else highest
    if high < _NOTHING:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(high / _TICKS))
    steps = (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(unit * step * _TICKS for step in steps if unit * step * _TICKS >= high * (1 - 1e-9))


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"


def _x(step: int, last: int) -> float:
    return _LEFT + step / max(1, last) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
