"""Photos, a tiny detector of random weights, and requests of the stage `detect` for them."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from detector.checkpoints import save_detector
from detector.config import DetectorConfig, RegionRules
from detector.model import AttributeRCNN
from flows.child import Request
from flows.launch import child_command
from flows.photos import write_photos
from flows.scale import Scale
from flows.stages import detect
from storage.published.label_maps import LabelMap
from storage.records import ImageSource
from tests.builders_flows import ROOT
from tests.builders_scenes import block_photos

TINY = DetectorConfig(
    norm="batch",
    blocks=(1, 1, 1),
    stem_width=4,
    res2_width=8,
    width_per_group=4,
    anchor_sizes=(14, 28),
    post_nms_top_n=8,
    num_classes=3,
    num_attributes=3,
    min_size=48,
    max_size=64,
    regions=RegionRules(min_regions=3, max_regions=5),
)
LABELS = LabelMap(
    class_names=("__background__", "box", "bar"),
    attribute_names=("__no_attribute__", "red", "blue"),
)
SHARDS_OF = 4


class Ground:
    """A folder with photos `blocks/train-0`, ... one damaged, a list of them, and a detector."""

    def __init__(self, folder: Path, num: int = 14, damaged: int | None = 5) -> None:
        self.folder = folder
        self.roots = {"0": folder / "photos"}
        self.sources, _ = block_photos(self.roots["0"], num)
        if damaged is not None:
            self.sources[damaged].path.write_bytes(b"no photo")
        self.list_photos(self.sources)
        torch.manual_seed(0)
        save_detector(folder / "detector", AttributeRCNN(TINY).eval(), LABELS)

    def list_photos(self, sources: list[ImageSource]) -> None:
        """The photos that a later extraction is given."""
        self.sources = sources
        write_photos(self.folder, {"0": sources}, self.roots)

    def inputs(self, earlier: str | None = None) -> detect.Inputs:
        return detect.Inputs(
            images=self.folder,
            photos=self.roots,
            detector=self.folder / "detector",
            earlier=self.folder / earlier if earlier else None,
        )

    def extract(
        self, name: str, *, earlier: str | None = None, batch_size: int = 2, **settings: Any
    ) -> detect.Summary:
        """In this process."""
        config = detect.Config(batch_size=batch_size, rows_per_shard=SHARDS_OF, **settings)
        outputs = detect.Outputs(regions=self.folder / name / "regions")
        return detect.run(config, self.inputs(earlier), outputs)

    def start(
        self, name: str, scale: Scale, environment: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """In a child, as the runner starts it; in a group of its own."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        request = Request(
            stage="detect",
            config={"batch_size": 2, "rows_per_shard": SHARDS_OF},
            inputs={
                "images": str(self.folder),
                "photos": {number: str(root) for number, root in self.roots.items()},
                "detector": str(self.folder / "detector"),
            },
            outputs={"regions": str(place / "regions")},
            folder=str(place),
            fingerprint="f" * 64,
            scale=asdict(scale),
        )
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(asdict(request)))
        return subprocess.Popen(
            child_command(detect.SPREADS, scale, path),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def bytes_of(self, name: str) -> dict[str, bytes]:
        """What an extraction left, but the done-mark with its times."""
        place = self.folder / name
        return {
            str(path.relative_to(place)): path.read_bytes()
            for path in sorted(place.rglob("*"))
            if path.is_file() and path.name != "DONE.json"
        }


def finish(child: "subprocess.Popen[str]") -> str:
    """Wait for a child that should end well; what it printed. Its standard input stays open."""
    assert child.stdout is not None
    try:
        printed = child.stdout.read()
        child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    close(child)
    assert child.returncode == 0, printed
    return printed


def close(child: "subprocess.Popen[str]") -> None:
    """Close the pipes of a child that has ended."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
