"""One of several processes that train a detector together; forked from a server with torch."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detector.training.config import CropWarmup, DetectorTraining
from detector.training.photos import label_map_from
from detector.training.together import join
from detector.training.train import train_detector
from tests.builders_detector import tiny_config
from tests.builders_scenes import block_photos

TRAINING = DetectorTraining(
    num_steps=4,
    images_per_step=3,
    learning_rate=1e-2,
    warmup_steps=1,
    frozen_stages=1,
    gradient_clip=5.0,
    post_nms_top_n=12,
    regions_per_image=8,
    anchors_per_image=16,
    checkpoint_every=2,
    crop_warmup=CropWarmup(num_steps=2, window_sizes=(32, 48), windows_per_step=(3, 1)),
)


def main(
    folder: Path,
    place: Mapping[str, str],
    changes: Mapping[str, Any],
    stop_at: int = 0,
    damaged: int = -1,
) -> None:
    """Train a tiny detector on seven pictures.

    Args:
        folder: Gets `detector`, `losses.jsonl` and of each process `stderr<rank>`.
        place: What torchrun would put into the environment.
        changes: Of `TRAINING`.
        stop_at: Step after which process 1, or the only one, is asked to stop; 0: never.
        damaged: Picture that cannot be read; -1: none.
    """
    os.environ.update(place)
    torch.set_num_threads(1)
    with open(folder / f"stderr{place['RANK']}", "ab") as stream:
        os.dup2(stream.fileno(), 2)
    pictures = folder / f"photos{place['RANK']}"  # each machine has its own
    sources, objects = block_photos(pictures, 7)
    if damaged >= 0:
        path = Path(sources[damaged].path)
        path.write_bytes(path.read_bytes()[:60])
    together = join()
    steps: list[int] = []
    summary = train_detector(
        config=tiny_config(),
        training=replace(TRAINING, **changes),
        sources=sources,
        objects=objects,
        label_map=label_map_from(objects),
        folder=folder / "detector",
        losses=folder / "losses.jsonl",
        on_step=lambda report: steps.append(report.step),
        should_stop=lambda: together.number == together.num - 1 and len(steps) == stop_at - 1,
        together=together,
    )
    together.part()
    told = ",".join(each.image_id for each in summary.quarantined)
    (folder / f"told{place['RANK']}").write_text(f"{summary.num_photos} {told}")
