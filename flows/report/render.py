"""One `RunReport` -> one HTML page that needs nothing beside itself."""

import re
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows.progress import clock
from flows.report.figures import loss_figure
from flows.report.losses import curve_title
from flows.report.measures import detector_bars
from flows.report.records import RunReport, StageRow, Timeline
from flows.report.timing import step_title
from storage.artifacts import atomic_write_text

MOST_TAGS = 8
"""Sure regions listed under a photo; the rest is folded."""

_CHINESE = re.compile("[\u4e00-\u9fff]")


def render(report: RunReport) -> str:
    """The page; every text of the run is escaped."""
    environment = Environment(
        loader=PackageLoader("flows", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clock=_clock,
        figure=_figure,
        lane=_lane,
        loss_figure=loss_figure,
        curve_title=curve_title,
        size=_size,
        sort_of_work=_sort_of_work,
        step_title=step_title,
        tongue=_tongue,
        whole=lambda value: f"{value:,.0f}",
    )
    style = files("flows.report").joinpath("report.css").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        run=report,
        style=Markup(style),
        detector=detector_bars(report.metrics),
        most_tags=MOST_TAGS,
        marks=any(part.verdict for entry in report.gallery for part in entry.caption),
    )


def write_page(path: Path, report: RunReport) -> int:
    """Write the page whole.

    Returns:
        Its size [bytes].

    Raises:
        OSError: The file cannot be written.
    """
    page = render(report)
    # a lone surrogate (a file name that is not UTF-8) shows as a question mark
    page = page.encode("utf-8", "replace").decode("utf-8")
    atomic_write_text(path, page)
    return path.stat().st_size


def _lane(stage: StageRow, timeline: Timeline) -> tuple[float, float]:
    """Where the bar of a step begins and how long it is, fractions."""
    if timeline.is_clocked and stage.begins is not None and stage.ends is not None:
        return stage.begins, stage.ends - stage.begins
    longest = max(row.seconds for row in timeline.stages)
    return 0.0, stage.seconds / longest if longest else 0.0


def _sort_of_work(step: str) -> str:
    """Class of a bar: what learns, what judges, what prepares."""
    if step == "pretrain" or step == "train_detector" or step.endswith("_train"):
        return "learn"
    if step.endswith(("_predict", "_score")) or step.startswith("score_"):
        return "judge"
    return "prepare"


def _tongue(text: str) -> str:
    """Language of a text for the browser: Chinese where it holds a Chinese character."""
    return "zh-CN" if _CHINESE.search(text) else "en"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if 0 < seconds < 10 else clock(seconds)


def _figure(value: float) -> str:
    """A number of the table: counts without decimals, the rest with four."""
    return f"{value:,.0f}" if value == int(value) and abs(value) > 1 else f"{value:.4f}"


def _size(num_bytes: int) -> str:
    if not num_bytes:
        return ""
    mebibytes = num_bytes / 2**20
    return f"{mebibytes / 1024:.2f} GiB" if mebibytes >= 1000 else f"{mebibytes:.0f} MiB"
