"""Stage: photos -> regions in shards; photos that cannot be read are set aside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detector.config import RegionRules
from flows.photos import read_photos
from flows.progress import SILENT, Progress
from storage.quarantine import QUARANTINE_NAME, write_quarantine

VERSION = 1
SHRINKABLE = ("batch_size",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `detect`. rules: which regions are kept; None takes the model's."""

    batch_size: int = 8
    rules: RegionRules | None = None
    dtype: Literal["float16", "float32"] = "float16"
    rows_per_shard: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    images: Path
    photos: Mapping[str, Path]
    detector: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    regions: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_regions: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """See every photo once; goes on after the last whole shard."""
    import os

    from detector.checkpoints import load_detector
    from detector.extract import extract
    from storage.region_shards import RegionWriter

    sources = read_photos(inputs.images, inputs.photos)
    loaded = load_detector(inputs.detector)
    done = 0

    def tell(image_id: str) -> None:
        nonlocal done
        done += 1
        progress.at(done, len(sources), unit="photos")

    with RegionWriter(
        outputs.regions,
        detector=loaded.fingerprint,
        feature_width=loaded.model.feature_width,
        dtype=config.dtype,
        rows_per_shard=config.rows_per_shard,
    ) as writer:
        extraction = extract(
            loaded.model,
            sources,
            loaded.label_map,
            writer,
            workers=int(os.environ.get("OMP_NUM_THREADS", "1")),
            batch_size=config.batch_size,
            rules=config.rules,
            on_image=tell,
        )
    write_quarantine(outputs.regions.parent / QUARANTINE_NAME, extraction.quarantined)
    return Summary(
        num_in=extraction.num_in,
        num_out=extraction.num_written + extraction.num_reused,
        num_quarantined=len(extraction.quarantined),
        num_regions=extraction.num_regions,
    )
