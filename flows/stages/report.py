"""Stage: everything a run made -> one page to look at and one flat file of its metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.progress import SILENT, Progress

VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the page shows; YAML section `report`.

    title:        heading of the page; "" takes the name of the run's folder
    num_gallery:  photos in the gallery
    num_examples: examples of each direction of retrieval and of each kind of question
    languages:    language of a captioning step, by the step's name; "zh" where absent
    """

    title: str = ""
    num_gallery: int = 12
    num_examples: int = 4
    languages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run made.

    steps:  whole folder of every earlier step, by its name
    photos: photo folders by number, as `list_images` took them
    truth:  what rendered scenes show
    """

    steps: Mapping[str, Path]
    photos: Mapping[str, Path] = field(default_factory=dict)
    truth: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    report: Path = Path("report.html")
    metrics: Path = Path("metrics.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_metrics: int
    num_bytes: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Read the finished steps, write the page and the metrics."""
    from flows.report.collect import Wishes, collect
    from flows.report.metrics_file import write_metrics
    from flows.report.render import write_page

    wishes = Wishes(
        title=config.title or outputs.report.parent.parent.name,
        num_gallery=config.num_gallery,
        num_examples=config.num_examples,
        languages=config.languages,
    )
    report = collect(inputs.steps, inputs.photos, inputs.truth, wishes)
    progress.at(1, 2, unit="parts")
    write_metrics(outputs.metrics, report.metrics, report.versions)
    num_bytes = write_page(outputs.report, report)
    progress.at(2, 2, unit="parts", is_last=True)
    return Summary(num_metrics=len(report.metrics), num_bytes=num_bytes)
