"""Stage: photos and boxes -> a trained detector."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from detector.config import DetectorConfig, preset
from detector.training.config import DetectorTraining
from flows.photos import read_photos
from flows.progress import SILENT, Progress
from storage.quarantine import QUARANTINE_NAME, write_quarantine

if TYPE_CHECKING:
    from detector.training.train import StepReport

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `train_detector`.

    preset:     sizes of the network (`detector.config.PRESETS`)
    overrides:  what differs from the preset
    pretrained: trunk and res5 start from ImageNet (`lite0` only)
    label_map:  names to learn; None takes those of the training annotations
    """

    preset: str = "x152c4"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    training: DetectorTraining = field(default_factory=DetectorTraining)
    label_map: Path | None = None

    def network(self) -> DetectorConfig:
        """The preset with its overrides."""
        changed: DetectorConfig = replace(preset(self.preset), **self.overrides)
        return TypeAdapter(DetectorConfig).validate_python(changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    images: Path
    photos: Mapping[str, Path]
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    detector: Path
    losses: Path = Path("losses.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_objects: int
    num_steps: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Train, or go on training."""
    from detector.training.train import train_detector
    from storage.annotation_shards import read_annotations
    from storage.published.label_maps import label_map_of, read_label_map

    def tell(report: "StepReport") -> None:
        note = f"{report.phase}, loss {report.losses['total']:.3f}"
        progress.at(report.step, report.num_steps, unit="steps", note=note)

    everything = read_annotations(inputs.annotations).objects
    objects = [image for image in everything if image.split == "train"]
    if config.label_map is not None:
        label_map = read_label_map(config.label_map)
    else:
        label_map = label_map_of(
            sorted({name for image in objects for name in image.class_names}),
            sorted({n for image in objects for names in image.attributes for n in names}),
        )
    summary = train_detector(
        config=config.network(),
        training=config.training,
        sources=read_photos(inputs.images, inputs.photos),
        objects=objects,
        label_map=label_map,
        folder=outputs.detector,
        losses=outputs.losses,
        pretrained=config.pretrained,
        on_photo=lambda done, total: progress.at(done, total, unit="photos"),
        on_step=tell,
    )
    write_quarantine(outputs.losses.parent / QUARANTINE_NAME, summary.quarantined)
    num_quarantined = len(summary.quarantined)
    return Summary(
        num_in=summary.num_photos + num_quarantined,
        num_out=summary.num_photos,
        num_quarantined=num_quarantined,
        num_objects=summary.num_objects,
        num_steps=summary.num_steps,
    )
