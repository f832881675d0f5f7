"""Reading region features: mapped shards against a table of base64, by id and in order.

The table is the layout of the Oscar family: image key, objects as JSON with boxes and names, number
of regions, features as base64 of float32; rows are found through a list of offsets. Both hold the
same float32 numbers; the last figures are those of the default, float16. Files lie in the page
cache: this measures decoding, not the disk.
"""

import base64
import json
import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, ratio, side_by_side, timing
from storage.records import ImageRegions
from storage.region_shards import RegionReader
from storage.region_slices import RegionSettings, write_regions

NUM_IMAGES = 192
NUM_REGIONS = 50
FEATURE_WIDTH = 2048
NUM_ATTRIBUTES = 16
NUM_RUNS = 5
NAMES = ("dog", "street lamp", "tree", "window", "bicycle wheel")


def measure() -> list[Figure]:
    """Seconds for all images once, each way, and bytes on disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_both(folder)
        wide = RegionReader(folder / "float32")
        narrow = RegionReader(folder / "float16")
        table = Base64Table(folder / "features.tsv")
        ids = list(wide)
        random.Random(0).shuffle(ids)
        seconds = side_by_side(
            {
                "table, by id": lambda: [table.read(image_id) for image_id in ids],
                "shards, by id": lambda: [wide[image_id].features for image_id in ids],
                "shards, by id, float16": lambda: [narrow[image_id].features for image_id in ids],
                "table, in order": lambda: [row[1] for row in table.in_order()],
                "shards, in order": lambda: [each.features for each in wide.in_order()],
                "shards, in order, float16": lambda: [each.features for each in narrow.in_order()],
                "shards, opened and verified": lambda: RegionReader(folder / "float32"),
            },
            n=NUM_RUNS,
        )
        sizes = {
            path.name: sum(file.stat().st_size for file in _files(path))
            for path in (folder / "features.tsv", folder / "float32", folder / "float16")
        }
    return [
        *(timing(name, each) for name, each in seconds.items()),
        ratio("by id, shards faster", seconds["table, by id"], seconds["shards, by id"]),
        ratio("in order, shards faster", seconds["table, in order"], seconds["shards, in order"]),
        *(
            Figure(name=f"{name} on disk", value=size / 1e6, unit="MB", n=1, spread=0.0)
            for name, size in sizes.items()
        ),
    ]


class Base64Table:
    """The textbook reader: seek, read a line, split, decode."""

    def __init__(self, path: Path) -> None:
        """Open the table and find its rows."""
        self._stream = open(path, "rb")  # noqa: SIM115 - open as long as the reader
        self._starts: dict[str, int] = {}
        start = 0
        for line in self._stream:
            self._starts[line.split(b"\t", 1)[0].decode()] = start
            start += len(line)

    def read(self, image_id: str) -> tuple[Mapping[str, object], NDArray[np.float32]]:
        """Objects and features of one image."""
        self._stream.seek(self._starts[image_id])
        return self._decoded(self._stream.readline())

    def in_order(self) -> Iterator[tuple[Mapping[str, object], NDArray[np.float32]]]:
        """All images."""
        self._stream.seek(0)
        return map(self._decoded, self._stream)

    @staticmethod
    def _decoded(line: bytes) -> tuple[Mapping[str, object], NDArray[np.float32]]:
        _, objects, num, features = line.decode().rstrip("\n").split("\t")
        numbers = np.frombuffer(base64.b64decode(features), np.float32)
        return json.loads(objects), numbers.reshape(int(num), -1).copy()


def write_both(folder: Path) -> None:
    """The same regions as a table, and as shards of both widths."""
    wide = RegionSettings(detector="d", feature_width=FEATURE_WIDTH, dtype="float32")
    narrow = replace(wide, dtype="float16")
    write_regions(folder / "float32", map(_regions, range(NUM_IMAGES)), wide)
    write_regions(folder / "float16", map(_regions, range(NUM_IMAGES)), narrow)
    with open(folder / "features.tsv", "w", encoding="utf-8") as table:
        for regions in map(_regions, range(NUM_IMAGES)):
            objects = [
                {"class": name, "conf": float(score), "rect": box, "attributes": list(words)}
                for name, score, box, words in zip(
                    regions.class_names,
                    regions.confidences,
                    regions.boxes.tolist(),
                    regions.attribute_names,
                    strict=True,
                )
            ]
            coded = base64.b64encode(regions.features.tobytes()).decode()
            table.write(f"{regions.image_id}\t{json.dumps(objects)}\t{NUM_REGIONS}\t{coded}\n")


def _regions(number: int) -> ImageRegions:
    draw = np.random.default_rng(number)
    class_ids = draw.integers(1, 1 + len(NAMES), NUM_REGIONS).astype(np.int16)
    shape = (NUM_REGIONS, NUM_ATTRIBUTES)
    return ImageRegions(
        image_id=f"photos/{number}",
        content_hash="0" * 64,
        height=600,
        width=800,
        boxes=draw.uniform(0, 500, (NUM_REGIONS, 4)).astype(np.float32),
        features=draw.normal(size=(NUM_REGIONS, FEATURE_WIDTH)).astype(np.float32),
        class_ids=class_ids,
        confidences=draw.uniform(size=NUM_REGIONS).astype(np.float32),
        attribute_ids=draw.integers(1, 500, shape).astype(np.int16),
        attribute_scores=draw.uniform(size=shape).astype(np.float32),
        class_names=tuple(NAMES[class_id - 1] for class_id in class_ids),
        attribute_names=(("red", "large", "wooden"),) * NUM_REGIONS,
    )


def _files(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else [path]
