"""When each step worked: begin and end on one axis that leaves out pauses between two starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.report.finished import FinishedStep, is_number, read_rows
from flows.report.records import Count, StageRow, Timeline
from flows.run_folder import DONE, RunFolder

PAUSE_SECONDS = 60.0
"""A longer time in which no step worked is left out of the axis."""

_NOT_COUNTS = frozenset({"seconds", "cpu_seconds", "peak_bytes", "num_quarantined"})

_TITLES = {
    "render_scenes": "Render scenes",
    "list_images": "List photos",
    "collect_annotations": "Collect annotations",
    "train_detector": "Train detector",
    "detect": "Detect and extract",
    "score_detector": "Score detector",
    "translate_tags": "Translate tags",
    "pretrain": "Pretrain",
}
_VERBS = {"train": "train", "predict": "predict", "score": "score"}
_TASKS = {"captioning": "Captioning", "retrieval": "Retrieval", "vqa": "Questions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time of work, by one clock [seconds]."""

    begin: float
    end: float


def step_title(step: str) -> str:
    """`vqa_train` -> "Questions: train"; unknown names with blanks for underscores."""
    if step in _TITLES:
        return _TITLES[step]
    head, _, verb = step.rpartition("_")
    task = next((title for name, title in _TASKS.items() if head.startswith(name)), None)
    if task is None or verb not in _VERBS:
        return step.replace("_", " ").capitalize()
    extra = head.partition("_")[2]
    return f"{task}{f' ({extra})' if extra else ''}: {_VERBS[verb]}"


def in_plan_order(steps: Iterable[str]) -> list[str]:
    """Steps as a plan has them, whatever order they come in: shared ones, then task by task."""
    shared = list(_TITLES)
    verbs = list(_VERBS)

    def rank(step: str) -> tuple[int, ...]:
        if step in shared:
            return 0, shared.index(step)
        head, _, verb = step.rpartition("_")
        task = next((at for at, name in enumerate(_TASKS) if head.startswith(name)), len(_TASKS))
        return 1, task, verbs.index(verb) if verb in verbs else len(verbs)

    return sorted(steps, key=rank)


def read_timeline(steps: Mapping[str, FinishedStep]) -> Timeline:
    """The rows of all finished steps, with their places on the axis where the clock is known."""
    summaries = {name: step.summary for name, step in steps.items()}
    done = [name for name in steps if summaries[name]]
    spans = {name: span for name in done if (span := _span(steps[name])) is not None}
    axis = Axis(list(spans.values()))
    rows = []
    for name in done:
        summary, span = summaries[name], spans.get(name)
        rows.append(
            StageRow(
                step=name,
                title=step_title(name),
                seconds=_number(summary.get("seconds")),
                cpu_seconds=_number(summary.get("cpu_seconds")),
                peak_bytes=int(_number(summary.get("peak_bytes"))),
                begins=axis.place(span.begin) if span else None,
                ends=axis.place(span.end) if span else None,
                counts=_counts(summary),
                num_quarantined=int(_number(summary.get("num_quarantined"))),
            )
        )
    is_clocked = bool(rows) and len(spans) == len(done)
    if is_clocked:
        rows.sort(key=lambda row: (row.begins or 0.0, row.ends or 0.0))
    longest = sum(row.seconds for row in rows)
    return Timeline(
        stages=tuple(rows),
        wall_seconds=axis.length if is_clocked else longest,
        breaks=axis.breaks if is_clocked else (),
        is_clocked=is_clocked,
    )


class Axis:
    """Clock time -> fraction of the page's width, pauses left out."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._busy: list[Span] = []
        for span in sorted(spans, key=lambda each: each.begin):
            last = self._busy[-1] if self._busy else None
            if last is None or span.begin - last.end > PAUSE_SECONDS:
                self._busy.append(span)
            else:
                self._busy[-1] = Span(begin=last.begin, end=max(last.end, span.end))
        self.length = sum(span.end - span.begin for span in self._busy)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Where a pause was left out."""
        return tuple(self.place(span.begin) for span in self._busy[1:])

    def place(self, moment: float) -> float:
        """Fraction of the axis; a moment inside a pause lies at the end of the work before it."""
        before = sum(
            max(0.0, min(moment, span.end) - span.begin)
            for span in self._busy
            if span.begin <= moment
        )
        return before / self.length if self.length else 0.0


def _span(step: FinishedStep) -> Span | None:
    """When the step worked; None if nobody remembers.

    The run keeps the state of a step's latest attempt; where that was with other settings, the
    log still tells when this one began.
    """
    run = RunFolder(step.folder.parent)
    state = run.read_state(step.name)
    try:
        if state is not None and state.state == DONE and state.fingerprint == step.fingerprint:
            begin = datetime.fromisoformat(state.started_at).timestamp()
            end = datetime.fromisoformat(state.updated_at).timestamp()
        else:
            first = next(read_rows(run.log(step.name, step.fingerprint)), {})
            begin = datetime.fromisoformat(str(first.get("time"))).timestamp()
            end = begin + _number(step.summary.get("seconds"))
    except ValueError:
        return None
    return Span(begin=begin, end=max(end, begin + 0.5))


def _counts(summary: Mapping[str, object]) -> tuple[Count, ...]:
    """The whole numbers that the stage counted, in words."""
    return tuple(
        Count(name=name.removeprefix("num_").replace("_", " "), value=_number(value))
        for name, value in summary.items()
        if name.startswith("num_") and name not in _NOT_COUNTS and is_number(value)
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and is_number(value) else 0.0
