"""Stage: regions against true boxes -> how good the detector is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.photos import read_photos
from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.records import ImageObjects, ImageRegions

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `score_detector`.

    families: attribute family -> its names; scored as `<family>_accuracy`
    split:    whose true boxes count
    visual_genome: score as VinVL's program does as well: classes, and attributes on true boxes
    """

    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str = "test"
    visual_genome: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """images, photos, detector: for what is judged on true boxes (`visual_genome`)."""

    regions: Path
    annotations: Path
    images: Path | None = None
    photos: Mapping[str, Path] = field(default_factory=dict)
    detector: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    scores: Path = Path("scores.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Compare the detections of a split with its true boxes."""
    from importlib.metadata import version

    from detector.evaluate import evaluate_detector
    from storage.annotation_shards import read_annotations
    from storage.region_shards import RegionReader

    reader = RegionReader(inputs.regions)
    objects = [
        image
        for image in read_annotations(inputs.annotations).objects
        if image.split == config.split
    ]
    # a photo that could not be read was set aside by `detect` and is no miss of the detector
    seen = [image for image in progress.track(objects) if image.image_id in reader]
    regions = [reader[image.image_id] for image in seen]
    values = evaluate_detector(regions, seen, config.families)
    if config.visual_genome:
        values |= _visual_genome(inputs, regions, seen, progress)
    versions = {"pycocotools": version("pycocotools")}
    atomic_write_json(outputs.scores, {"values": values, "versions": versions})
    return Summary(num_in=len(objects), num_out=len(seen), num_quarantined=len(objects) - len(seen))


def _visual_genome(
    inputs: Inputs,
    regions: "Sequence[ImageRegions]",
    objects: "Sequence[ImageObjects]",
    progress: Progress,
) -> dict[str, float]:
    """Figures of VinVL's program."""
    from detector.checkpoints import read_detector
    from detector.engines import prepare
    from detector.visual_genome import attribute_figures, class_figures, name_true_boxes
    from storage.images import decode

    assert inputs.detector is not None, "the plan gives the detector where it is asked for"
    assert inputs.images is not None, "and the photos"
    loaded = read_detector(inputs.detector)
    engine = prepare(loaded.model)
    judged = [image for image in objects if not image.is_crowd.all()]
    wanted = {image.image_id for image in judged}
    photos = read_photos(inputs.images, inputs.photos)
    source_by_id = {each.image_id: each for each in photos if each.image_id in wanted}
    named = [
        name_true_boxes(engine, decode(source_by_id[image.image_id]), image, loaded.label_map)
        for image in progress.track(judged)
    ]
    return class_figures(regions, objects, loaded.label_map) | attribute_figures(
        named, judged, loaded.label_map
    )
