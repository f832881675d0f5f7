"""A run of the real pipeline on three small photos with a tiny detector; seconds, no tasks."""

import json
import shutil
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from detector.training.config import DetectorTraining
from flows.commands.run import Finished, run
from flows.config import RunConfig
from flows.data import Data, PhotoCollection
from flows.photos import write_photos
from flows.stages import train_detector
from storage.annotation_shards import write_annotations
from storage.records import Annotations
from tests.builders_scenes import block_photos
from tests.flows.test_detector_stages import TINY


@dataclass(frozen=True, slots=True)
class SmallRun:
    """Data, detector and configuration below one folder."""

    folder: Path

    @property
    def photos(self) -> Path:
        return self.folder / "data" / "photos"

    @property
    def out(self) -> Path:
        return self.folder / "run"

    def config(self) -> RunConfig:
        return RunConfig(
            data=Data(
                root=self.folder / "data",
                images=(PhotoCollection(path="photos"),),
                sources=(
                    {
                        "reader": "coco_captions",
                        "path": "captions.json",
                        "namespace": "",
                        "split": "train",
                        "language": "en",
                    },
                ),
            ),
            detector_weights=self.folder / "detector",
        )

    def run(self, config: RunConfig | None = None) -> Finished:
        return run(config or self.config(), self.out, with_prefect=False, stream=StringIO())


def make_small_run(folder: Path) -> SmallRun:
    """Photos, a caption and a detector; nothing is run yet."""
    small = SmallRun(folder)
    sources, objects = block_photos(small.photos, 3)
    training = folder / "training"
    write_photos(training, {"0": sources}, {"0": small.photos})
    write_annotations(training / "annotations", Annotations(objects=objects))
    train_detector.run(
        train_detector.Config(
            preset="demo",
            overrides=TINY,
            training=DetectorTraining(
                num_steps=1, images_per_step=2, frozen_stages=0, checkpoint_every=1
            ),
        ),
        train_detector.Inputs(
            images=training, photos={"0": small.photos}, annotations=training / "annotations"
        ),
        train_detector.Outputs(detector=folder / "detector", losses=training / "losses.jsonl"),
    )
    shutil.rmtree(training)
    (folder / "data" / "captions.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": sources[0].path.name}],
                "annotations": [{"id": 1, "image_id": 1, "caption": "a block"}],
            }
        )
    )
    return small


def with_rows(config: RunConfig, rows: int) -> RunConfig:
    """The same with another setting of `detect`."""
    return replace(config, detect=replace(config.detect, rows_per_shard=rows))
