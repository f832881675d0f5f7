"""Stage: regions and tags of any photos -> a caption for each, by a trained model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.progress import SILENT, Progress
from storage.artifacts import atomic_write_text

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to choose: what a model does it knows itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    model: Path
    regions: Path
    tags: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """captions: one line a photo, `{"image_id", "caption", "probability", "tags"}`."""

    captions: Path = Path("captions.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Describe every photo that has regions."""
    from flows.captions import describe
    from storage.region_shards import RegionReader
    from storage.tag_shards import read_tags

    regions = RegionReader(inputs.regions)
    tags = read_tags(inputs.tags)
    said = describe(
        inputs.model,
        regions,
        tags,
        geometry=regions.geometry,
        on_batch=lambda done, total: progress.at(done, total, unit="photos"),
    )
    rows = [{**asdict(each), "tags": _words(tags[each.image_id].tags)} for each in said]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    atomic_write_text(outputs.captions, "".join(lines))
    return Summary(num_in=len(regions), num_out=len(said), num_quarantined=0)


def _words(tags: tuple[str, ...]) -> list[str]:
    """Each word once, most certain first."""
    return [word for word in dict.fromkeys(tags) if word]
