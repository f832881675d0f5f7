"""Stage: regions against true boxes -> how good the detector is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_json

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `score_detector`.

    families: attribute family -> its names; scored as `<family>_accuracy`
    split:    whose true boxes count
    """

    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    regions: Path
    annotations: Path


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
    versions = {"pycocotools": version("pycocotools")}
    atomic_write_json(outputs.scores, {"values": values, "versions": versions})
    return Summary(num_in=len(objects), num_out=len(seen), num_quarantined=len(objects) - len(seen))
