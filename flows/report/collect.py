"""Reads the folders of a run's finished steps into one `RunReport`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.progress import clock
from flows.report.asked import question_kinds
from flows.report.attempts import tried_steps
from flows.report.coverage import read_coverage
from flows.report.dropped import dropped_groups
from flows.report.finished import FinishedStep, finished_steps
from flows.report.gallery import gallery
from flows.report.losses import read_loss_charts
from flows.report.measures import measures, metric_rows, read_metrics
from flows.report.missing import reasons
from flows.report.records import (
    Fact,
    Measure,
    QuestionKind,
    Retrieval,
    RunReport,
    Timeline,
)
from flows.report.retrieved import retrieval
from flows.report.stored import Stored, read_stored
from flows.report.timing import in_plan_order, read_timeline
from flows.run_folder import RunFolder

_CONFIG_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the page should show.

    languages: language of a captioning step, by the step's name; else that of its training
    """

    title: str
    num_gallery: int = 12
    num_examples: int = 4
    languages: Mapping[str, str] = field(default_factory=dict)


def collect(
    folders: Mapping[str, Path], photos: Mapping[str, Path], truth: Path | None, wishes: Wishes
) -> RunReport:
    """Read everything the page shows; parts that a run has not say why they are empty.

    Args:
        folders: step -> its folder, in any order.
        photos: number of a photo folder -> where it is.
        truth: what rendered scenes show; None where the photos are real.
        wishes: what to show.

    Raises:
        StorageError: A finished folder is damaged; names the file.
    """
    steps = finished_steps({name: folders[name] for name in in_plan_order(folders)})
    stored = read_stored(steps, photos, truth)
    languages = {**_languages(steps), **wishes.languages}
    metrics, versions = read_metrics(steps, languages)
    captioned = _step_of(steps, "captioning", "predict")
    found = retrieval(_step_of(steps, "retrieval", "predict"), stored.album, wishes.num_examples)
    kinds = question_kinds(
        _step_of(steps, "vqa", "predict"), stored.annotations, stored.album, wishes.num_examples
    )
    language = _language_of(captioned, languages)
    shown = gallery(stored, captioned, language, wishes.num_gallery)
    timeline = read_timeline(steps)
    losses = read_loss_charts(steps)
    return RunReport(
        title=wishes.title,
        lead=_lead(stored),
        facts=_facts(steps, timeline),
        timeline=timeline,
        metrics=metrics,
        versions=versions,
        measures=_measures(metrics, found, kinds),
        metric_rows=metric_rows(metrics),
        losses=losses,
        gallery=shown,
        retrieval=found,
        questions=kinds,
        coverage=read_coverage(steps.get("translate_tags")),
        dropped=dropped_groups(steps),
        config=_config(folders),
        missing=reasons(metrics, stored, losses, shown, captioned, found, kinds),
        tried=tried_steps(steps),
    )


def _step_of(steps: Mapping[str, FinishedStep], task: str, verb: str) -> FinishedStep | None:
    """The first step of a task that predicts or trains; a task may run in several languages."""
    names = (name for name in steps if name.startswith(task) and name.endswith(f"_{verb}"))
    return next((steps[name] for name in names), None)


def _languages(steps: Mapping[str, FinishedStep]) -> dict[str, str]:
    """Language of each scoring step, as its training was told."""
    found = {}
    for name, step in steps.items():
        head, _, verb = name.rpartition("_")
        settings = step.config.get("settings")
        if verb == "train" and isinstance(settings, dict) and settings.get("language"):
            found[f"{head}_score"] = str(settings["language"])
    return found


def _language_of(captioned: FinishedStep | None, languages: Mapping[str, str]) -> str:
    head = captioned.name.rpartition("_")[0] if captioned is not None else ""
    return languages.get(f"{head}_score", "zh")


def _measures(
    metrics: Mapping[str, float], found: Retrieval | None, kinds: Sequence[QuestionKind]
) -> tuple[Measure, ...]:
    """The headline figures, with what guessing would reach and how much was measured."""
    sizes = {"vqa.accuracy": sum(kind.num_questions for kind in kinds)}
    if found is None:
        return measures(metrics, {}, sizes)
    sizes |= {"retrieval.t2i.r1": found.num_texts, "retrieval.i2t.r1": found.num_pictures}
    by_lot = 1 / found.num_pictures
    return measures(metrics, dict.fromkeys(("retrieval.t2i.r1", "retrieval.i2t.r1"), by_lot), sizes)


def _lead(stored: Stored) -> str:
    """One sentence: what the run was about."""
    said = stored.annotations
    parts = [f"{stored.num_photos:,} photos", f"{stored.num_regions:,} regions seen on them"]
    if said.captions:
        parts.append(f"{len(said.captions):,} captions")
    if said.questions:
        parts.append(f"{len(said.questions):,} questions")
    if len(parts) == 2 and not stored.num_regions:
        return f"{parts[0]}."
    return f"{', '.join(parts[:-1])} and {parts[-1]}."


def _facts(steps: Mapping[str, FinishedStep], timeline: Timeline) -> tuple[Fact, ...]:
    facts = [
        Fact(name="Time", value=clock(timeline.wall_seconds)),
        Fact(name="Processor time", value=clock(sum(s.cpu_seconds for s in timeline.stages))),
    ]
    peak = max((stage.peak_bytes for stage in timeline.stages), default=0)
    if peak:
        facts.append(Fact(name="Peak memory of a step", value=f"{peak / 2**30:.2f} GiB"))
    seed = steps["render_scenes"].config.get("seed") if "render_scenes" in steps else None
    if seed is not None:
        facts.append(Fact(name="Seed", value=str(seed)))
    return tuple(facts)


def _config(folders: Mapping[str, Path]) -> str:
    """The resolved configuration that the run keeps, "" where there is none."""
    for folder in folders.values():
        path = RunFolder(folder.parent).config
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            cut = "\n... (cut)" if len(text) > _CONFIG_CHARACTERS else ""
            return text[:_CONFIG_CHARACTERS] + cut
    return ""
