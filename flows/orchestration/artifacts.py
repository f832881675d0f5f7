"""What Prefect's pages show of a run beside its states: losses, photos, metrics, the report.

Pictures stand in markdown as data URLs: an image artifact prints its whole URL below itself
(specs/orchestration.md 9), markdown does not, and text can stand beside.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from flows.history import previous_metrics
from flows.orchestration.artifact import Artifact, key_of
from flows.orchestration.pictures import draw_losses, seen_photos, small_photo
from flows.orchestration.plain_text import plain
from flows.photos import read_photos
from flows.report.finished import FinishedStep, finished_steps
from flows.report.gallery import gallery
from flows.report.losses import read_loss_charts
from flows.report.metrics_file import read_metrics
from flows.report.records import LossChart
from flows.report.stored import Stored, read_stored
from flows.schedule import Execution
from storage.artifacts import read_done
from storage.records import ImageSource

NUM_PHOTOS = 4
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
REPORT_STEP = "report"
LIST_STEP = "list_images"
MAX_PHOTOS = 20_000
"""Of more, no pictures are shown: reading their records would take memory that the run needs."""


def of_step(execution: Execution, step: str) -> Iterator[Artifact]:
    """What a finished step made that is worth a look; nothing for most."""
    stage = execution.plan.step(step).stage
    folder = execution.prepared[step].folder
    for chart in read_loss_charts({step: FinishedStep(step, folder)}):
        yield _losses(chart)
    if stage == "translate_tags":
        yield from _seen(execution)
    elif stage == "predict":
        yield from _captions(execution, step)


def of_run(execution: Execution, link: str) -> Iterator[Artifact]:
    """Metrics with those of the run before beside them, and where the report lies.

    Args:
        execution: a run whose steps are all done.
        link: address of its report.
    """
    if REPORT_STEP not in execution.prepared:
        return
    folder = execution.prepared[REPORT_STEP].folder
    with suppress(OSError, ValueError):
        metrics = read_metrics(folder / METRICS_FILE)
        before = previous_metrics(execution.run)
        if metrics:
            yield Artifact(
                key="metrics",
                kind="table",
                content=json.dumps(metric_rows(metrics, before)),
                description=f"{execution.run.path.name}: this run and the one before",
            )
    yield Artifact(
        key="report",
        kind="markdown",
        content=f"[Report of {execution.run.path.name}]({link})\n\n"
        f"`{execution.run.path.resolve() / REPORT_FILE}`",
        description="Everything the run made, on one page",
    )


def metric_rows(metrics: Mapping[str, float], before: Mapping[str, float]) -> list[dict[str, str]]:
    """One row a metric, controls last; one that only one of the two runs has keeps its row."""
    rows = []
    names = [*metrics, *(each for each in before if each not in metrics)]
    for name in sorted(names, key=lambda each: each.endswith("_shuffled")):
        now, then = metrics.get(name), before.get(name)
        change = f"{now - then:+.4f}" if now is not None and then is not None else ""
        rows.append(
            {
                "metric": name,
                "this run": "" if now is None else f"{now:.4f}",
                "run before": "" if then is None else f"{then:.4f}",
                "change": "same" if change in ("+0.0000", "-0.0000") else change,
            }
        )
    return rows


def _losses(chart: LossChart) -> Artifact:
    lines = [f"# {chart.title}", f"![losses]({draw_losses(chart)})"]
    lines += ["| loss | first | least | last |\n|---|---|---|---|"]
    rows = [
        f"| {curve.name} | {curve.values[0]:.4f} | {min(curve.values):.4f} "
        f"| {curve.values[-1]:.4f} |"
        for curve in chart.curves
    ]
    return Artifact(
        key=key_of("losses", chart.step),
        kind="markdown",
        content="\n\n".join(lines) + "\n" + "\n".join(rows),
        description=f"{chart.title}: losses over {chart.curves[0].steps[-1]:,} steps",
    )


def _seen(execution: Execution) -> Iterator[Artifact]:
    """A few photos with boxes, objects, attributes, Chinese tags."""
    if not _is_small(execution):
        return
    photos = [
        f"![{plain(source.image_id)}]({url})\n\n{plain(source.image_id)}"
        for source, url in seen_photos(_stored(execution), _sources(execution), NUM_PHOTOS)
    ]
    if photos:
        yield Artifact(
            key="seen",
            kind="markdown",
            content="\n\n".join(photos),
            description="What the detector saw in a few photos, chosen at even distances",
        )


def _captions(execution: Execution, step: str) -> Iterator[Artifact]:
    """A few photos with the caption written and one that people wrote."""
    if not _is_small(execution):
        return
    predicted = FinishedStep(step, execution.prepared[step].folder)
    sources = {source.image_id: source for source in _sources(execution)}
    photos = [
        f"![{plain(image_id)}]({small_photo(sources[image_id])})\n\n"
        f"- the model: {plain(''.join(part.text for part in entry.caption))}\n"
        f"- people: {plain(entry.references[0]) if entry.references else 'nothing'}"
        for entry in gallery(_stored(execution), predicted, _language(execution, step), NUM_PHOTOS)
        for image_id in [entry.picture.image_id]
        if entry.caption and entry.picture.url
    ]
    if photos:
        yield Artifact(
            key=key_of("captions", step),
            kind="markdown",
            content="\n\n".join(photos),
            description="Captions of a few photos, chosen at even distances",
        )


def _is_small(execution: Execution) -> bool:
    """Whether the records fit beside everything else; the report's own process reads any number."""
    listed = execution.prepared.get(LIST_STEP)
    done = read_done(listed.folder) if listed is not None else None
    num = done.summary.get("num_out") if done is not None else None
    return isinstance(num, int) and num <= MAX_PHOTOS


def _stored(execution: Execution) -> Stored:
    folders = {name: each.folder for name, each in execution.prepared.items()}
    return read_stored(finished_steps(folders), _photo_folders(execution), None)


def _sources(execution: Execution) -> Sequence[ImageSource]:
    return read_photos(execution.prepared[LIST_STEP].outputs["images"], _photo_folders(execution))


def _photo_folders(execution: Execution) -> Mapping[str, Path]:
    folders = execution.prepared[LIST_STEP].inputs.get("photos", {})
    return folders if isinstance(folders, Mapping) else {}


def _language(execution: Execution, step: str) -> str:
    """As the report will show it."""
    if REPORT_STEP not in execution.prepared:
        return "zh"
    languages = getattr(execution.plan.step(REPORT_STEP).config, "languages", {})
    return str(languages.get(step.replace("_predict", "_score"), "zh"))
