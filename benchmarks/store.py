"""Reading region features in shuffled order: mapped shards against the tables of the Oscar family.

Both hold the same images of 50 regions: shards as `detect` writes them, tables as `export-regions`
writes them (2048 + 6 float32 in base64). An epoch reads every image once, row groups in random
order and the rows inside each; the table's rows are read in the same order, found by their offsets,
split, decoded. Each image is an array in memory at the end, and is dropped. `store.float16_...` is
the default of the shards, `store.float32_...` holds the very numbers of the table. First epoch: the
folder is opened anew, sizes compared. Names too: class and attribute names, from
`predictions.tsv` there. Files lie in the page cache: this measures decoding, not the disk.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, ratio, side_by_side, timing
from oscar_core.regions import region_inputs
from storage.published.vinvl_tables import TableRow, write_tables
from storage.records import ImageRegions
from storage.region_shards import RegionReader
from storage.region_slices import RegionSettings, write_regions

NUM_IMAGES = 512
NUM_REGIONS = 50
FEATURE_WIDTH = 2048
NUM_ATTRIBUTES = 16
NUM_RUNS = 7
NAMES = ("dog", "street lamp", "tree", "window", "bicycle wheel")
_TABLE, _NARROW, _WIDE = "tsv", "float16", "float32"


def measure() -> list[Figure]:
    """Ratios, images a second, bytes on disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_both(folder, NUM_IMAGES)
        table = Base64Table(folder / _TABLE)
        readers = {kind: RegionReader(folder / kind) for kind in (_NARROW, _WIDE)}
        seconds = side_by_side(_epochs(folder, table, readers), n=NUM_RUNS)
        opened = side_by_side({"verified": lambda: RegionReader(folder / _NARROW)}, n=3)
        sizes = {
            kind: sum(file.stat().st_size for file in (folder / kind).iterdir())
            for kind in (_TABLE, _NARROW, _WIDE)
        }
    narrow, wide = _NARROW, _WIDE
    return [
        ratio("store.float16_over_tsv", seconds[_TABLE], seconds[narrow]),
        ratio("store.float32_over_tsv", seconds[_TABLE], seconds[wide]),
        ratio("store.float16_over_tsv, first epoch", seconds[_TABLE], seconds["first"]),
        ratio("store.float16_over_tsv, names too", seconds["tsv, names"], seconds["names"]),
        *(_rate(f"store.images_per_second, {kind}", seconds[kind]) for kind in sizes),
        timing("store.open_and_verify, float16", opened["verified"]),
        *(
            Figure(name=f"store.size, {kind}", value=size / 1e6, unit="MB", n=1, spread=0.0)
            for kind, size in sizes.items()
        ),
    ]


def _epochs(
    folder: Path, table: "Base64Table", readers: dict[str, RegionReader]
) -> dict[str, Callable[[], object]]:
    order = [regions.image_id for regions in readers[_NARROW].shuffled(0, 0)]

    def first() -> None:
        _drop(RegionReader(folder / _NARROW, read_all=False).shuffled(0, 0))

    def names() -> None:
        for regions in readers[_NARROW].shuffled(0, 0):
            tuple(regions.class_names), tuple(regions.attribute_names)

    def table_names() -> None:
        for image_id in order:
            table.features(image_id), table.objects(image_id)

    return {
        _TABLE: lambda: _drop(map(table.features, order)),
        _NARROW: lambda: _drop(readers[_NARROW].shuffled(0, 0)),
        _WIDE: lambda: _drop(readers[_WIDE].shuffled(0, 0)),
        "first": first,
        "names": names,
        "tsv, names": table_names,
    }


def _drop(records: Iterable[object]) -> None:
    for _ in records:
        pass


class Base64Table:
    """The textbook reader: seek, read a line, split, decode.

    Source: `oscar/utils/tsv_file.py` and `oscar/run_retrieval.py` of microsoft/Oscar, in own words.
    """

    def __init__(self, folder: Path) -> None:
        """Open the tables of a folder and read their offsets."""
        self._rows: dict[str, int] = json.loads((folder / "imageid2idx.json").read_text())
        self._opened = {}
        for name in ("features", "predictions"):
            starts = [int(line) for line in (folder / f"{name}.lineidx").read_text().split()]
            stream = open(folder / f"{name}.tsv", encoding="utf-8")  # noqa: SIM115 - as the reader
            self._opened[name] = stream, starts

    def features(self, image_id: str) -> NDArray[np.float32]:
        """(N, F) of one image."""
        _, num, coded = self._fields("features", image_id)
        return np.frombuffer(base64.b64decode(coded), np.float32).reshape(int(num), -1)

    def objects(self, image_id: str) -> object:
        """What is said of the regions of one image."""
        return json.loads(self._fields("predictions", image_id)[1])

    def _fields(self, name: str, image_id: str) -> list[str]:
        stream, starts = self._opened[name]
        stream.seek(starts[self._rows[image_id]])
        return [field.strip() for field in stream.readline().split("\t")]


def write_both(folder: Path, num_images: int) -> None:
    """The same regions as tables (`tsv`), and as shards of both widths."""
    wide = RegionSettings(detector="d", feature_width=FEATURE_WIDTH, dtype="float32")
    narrow = replace(wide, dtype="float16")
    write_regions(folder / _WIDE, map(_regions, range(num_images)), wide)
    write_regions(folder / _NARROW, map(_regions, range(num_images)), narrow)
    rows = (
        TableRow(key=each.image_id, regions=each, inputs=region_inputs(each), width=FEATURE_WIDTH)
        for each in map(_regions, range(num_images))
    )
    write_tables(folder / _TABLE, rows, "vinvl")


def _regions(number: int) -> ImageRegions:
    draw = np.random.default_rng(number)
    class_ids = draw.integers(1, 1 + len(NAMES), NUM_REGIONS).astype(np.int16)
    shape = (NUM_REGIONS, NUM_ATTRIBUTES)
    features = draw.normal(size=(NUM_REGIONS, FEATURE_WIDTH)).astype(np.float32)
    corners = np.sort(draw.uniform(0, 500, (2, NUM_REGIONS, 2)), axis=0)
    return ImageRegions(
        image_id=f"photos/{number}",
        content_hash="0" * 64,
        height=600,
        width=800,
        boxes=np.concatenate([corners[0], corners[1]], axis=1).astype(np.float32),
        features=np.maximum(features, 0),  # they come out of a ReLU
        class_ids=class_ids,
        confidences=draw.uniform(size=NUM_REGIONS).astype(np.float32),
        attribute_ids=draw.integers(1, 500, shape).astype(np.int16),
        attribute_scores=draw.uniform(size=shape).astype(np.float32),
        class_names=tuple(NAMES[class_id - 1] for class_id in class_ids),
        attribute_names=(("red", "large", "wooden"),) * NUM_REGIONS,
    )


def _rate(name: str, seconds: list[float]) -> Figure:
    rates = sorted(NUM_IMAGES / each for each in seconds)
    return Figure(
        name=name,
        value=rates[len(rates) // 2],
        unit="images/s",
        n=len(rates),
        spread=rates[-1] - rates[0],
    )
