"""Reads the folders of a run's finished steps into one `RunReport`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.demo.truth import TrueImage, read_truth
from flows.photos import read_photos
from flows.progress import clock
from flows.report.album import Album
from flows.report.asked import question_kinds
from flows.report.coverage import read_coverage
from flows.report.dropped import dropped_groups
from flows.report.finished import FinishedStep, finished_steps
from flows.report.gallery import gallery
from flows.report.losses import read_loss_charts
from flows.report.measures import measures, metric_rows, read_metrics
from flows.report.records import (
    Fact,
    GalleryEntry,
    LossChart,
    QuestionKind,
    Retrieval,
    RunReport,
    Timeline,
)
from flows.report.retrieved import chance, retrieval
from flows.report.timing import read_timeline
from flows.run_folder import RunFolder
from storage.annotation_shards import read_annotations
from storage.records import Annotations, ImageRegions, ImageTags
from storage.region_shards import RegionReader
from storage.tag_shards import read_tags

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """The records of a run; empty where their step did not run."""

    album: Album
    num_photos: int
    regions: Mapping[str, ImageRegions]
    num_regions: int
    tags: Mapping[str, ImageTags]
    annotations: Annotations
    truth: Mapping[str, TrueImage]


def collect(
    folders: Mapping[str, Path], photos: Mapping[str, Path], truth: Path | None, wishes: Wishes
) -> RunReport:
    """Read everything the page shows; parts that a run has not say why they are empty.

    Args:
        folders: step -> its folder, in the order of the plan.
        photos: number of a photo folder -> where it is.
        truth: what rendered scenes show; None where the photos are real.
        wishes: what to show.

    Raises:
        StorageError: A finished folder is damaged; names the file.
    """
    steps = finished_steps(folders)
    stored = _read_stored(steps, photos, truth)
    languages = {**_languages(steps), **wishes.languages}
    metrics, versions = read_metrics(steps, languages)
    captioned = _step_of(steps, "captioning", "predict")
    found = retrieval(_step_of(steps, "retrieval", "predict"), stored.album, wishes.num_examples)
    kinds = question_kinds(
        _step_of(steps, "vqa", "predict"), stored.annotations, stored.album, wishes.num_examples
    )
    shown = gallery(
        stored.album,
        stored.regions,
        stored.tags,
        stored.annotations,
        captioned,
        languages.get(captioned.name.replace("_predict", "_score"), "zh") if captioned else "zh",
        stored.truth,
        wishes.num_gallery,
    )
    sizes = {"vqa.accuracy": sum(kind.num_questions for kind in kinds)}
    if found is not None:
        sizes |= {"retrieval.t2i.r1": found.num_texts, "retrieval.i2t.r1": found.num_pictures}
    chances = {f"retrieval.{end}": value for end, value in chance(found).items()} if found else {}
    timeline = read_timeline(steps)
    losses = read_loss_charts(steps)
    coverage = read_coverage(steps.get("translate_tags"))
    return RunReport(
        title=wishes.title,
        lead=_lead(stored),
        facts=_facts(steps, timeline),
        timeline=timeline,
        metrics=metrics,
        versions=versions,
        measures=measures(metrics, chances, sizes),
        metric_rows=metric_rows(metrics),
        losses=losses,
        gallery=shown,
        retrieval=found,
        questions=kinds,
        coverage=coverage,
        dropped=dropped_groups(steps),
        config=_config(folders),
        missing=_missing(metrics, stored, losses, shown, captioned, found, kinds),
    )


def _read_stored(
    steps: Mapping[str, FinishedStep], photos: Mapping[str, Path], truth: Path | None
) -> _Stored:
    listed = _folder(steps, "list_images", "images")
    sources = read_photos(listed, photos) if listed is not None else []
    regions_at = _folder(steps, "detect", "regions")
    reader = RegionReader(regions_at, read_all=False) if regions_at is not None else None
    tags_at = _folder(steps, "translate_tags", "tags")
    annotations_at = _folder(steps, "collect_annotations", "annotations")
    return _Stored(
        album=Album(sources),
        num_photos=len(sources),
        regions=reader if reader is not None else {},
        num_regions=_num_regions(reader),
        tags=read_tags(tags_at) if tags_at is not None else {},
        annotations=read_annotations(annotations_at) if annotations_at else Annotations(),
        truth=read_truth(truth) if truth is not None else {},
    )


def _num_regions(reader: RegionReader | None) -> int:
    return sum(len(each.class_names) for each in reader.labels_in_order()) if reader else 0


def _folder(steps: Mapping[str, FinishedStep], step: str, name: str) -> Path | None:
    return steps[step].find(name) if step in steps else None


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


def _lead(stored: _Stored) -> str:
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


def _missing(
    metrics: Mapping[str, float],
    stored: _Stored,
    losses: tuple[LossChart, ...],
    shown: tuple[GalleryEntry, ...],
    captioned: FinishedStep | None,
    found: Retrieval | None,
    kinds: tuple[QuestionKind, ...],
) -> dict[str, str]:
    """Section -> why it is empty."""
    no_captions = (
        "No captions of these photos were given."
        if not stored.annotations.captions
        else "This run has no such branch."
    )
    no_questions = (
        "No questions about these photos were given."
        if not stored.annotations.questions
        else "This run has no such branch."
    )
    reasons = {
        "measures": (
            not metrics,
            "Nothing was scored: no annotations of these photos were given, so there is nothing "
            "to compare with."
            if stored.annotations == Annotations()
            else "Nothing was scored in this run.",
        ),
        "losses": (not losses, "Nothing was trained in this run."),
        "gallery": (not shown, "No photo with regions could be shown."),
        "captions": (captioned is None, f"No caption was written. {no_captions}"),
        "retrieval": (found is None, f"Nothing was searched. {no_captions}"),
        "questions": (not kinds, f"Nothing was asked. {no_questions}"),
        "coverage": (not stored.tags, "No tags were translated in this run."),
    }
    return {section: reason for section, (is_empty, reason) in reasons.items() if is_empty}
