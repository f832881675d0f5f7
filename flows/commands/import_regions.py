"""Tables of the Oscar family -> region shards: `oscar-flow import-regions`.

A stretch of the tables' keys becomes one shard, which tells by itself what was set aside of it. So
an import that was interrupted goes on behind its whole shards, and one of which a shard is damaged
makes that anew; what it is an import of stands in `import.json`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.balance import check_balance
from flows.errors import FlowError
from flows.progress import SILENT, Progress
from flows.stored_regions import REGIONS
from storage.artifacts import atomic_write_json, remove_partials, sha256_of
from storage.box_numbers import NUM_BOX_NUMBERS
from storage.errors import RecordError
from storage.images import image_id_of
from storage.manifest import MANIFEST_NAME
from storage.places import Place
from storage.published.label_maps import read_label_map, write_label_map
from storage.published.vinvl_import import PublishedTables
from storage.quarantine import QUARANTINE_NAME, count_reasons, write_quarantine
from storage.records import (
    HEIGHT_FIRST,
    INCLUDED,
    WIDTH_FIRST,
    ImageLabels,
    ImageRegions,
    Quarantined,
)
from storage.region_shards import RegionShard
from storage.region_slices import (
    ROWS_PER_SHARD,
    RegionSettings,
    ShardReport,
    as_stored,
    finish_slices,
    read_slice,
    slice_key,
    write_slice,
)
from storage.seen import SeenKeys
from storage.shards import chunks

Order = Literal["width_first", "height_first"]
LABEL_MAP = "labelmap.json"
MARK = "import.json"
DETECTOR = "published"
"""What stands for the detector's fingerprint: nobody published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWishes:
    """How tables are taken in.

    namespace:     put before each image key; "" for none
    digits:        keys that are numbers get leading zeros up to so many: 12 for COCO, whose
                   annotations call its photos so
    label_map:     numbers of the names; None: `labelmap.json` of the tables, else by occurrence
    splits_boxes:  the last six numbers are checked against the boxes and left out, so that the
                   shards are as our own extraction writes them; else they stay in the features
    order:         of the last two numbers, where the tables do not tell
    dtype:         in which features are kept; float32 is what is published
    """

    namespace: str = ""
    digits: int = 0
    label_map: Path | None = None
    splits_boxes: bool = False
    order: Order | None = None
    dtype: Literal["float16", "float32"] = "float32"


def import_regions(
    tables: Path,
    out: Path,
    wishes: ImportWishes,
    progress: Progress = SILENT,
    *,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> list[str]:
    """Turn tables of the Oscar family into region shards; what is damaged is set aside.

    Args:
        tables: their folder.
        out: becomes the folder of `regions`, `quarantine.jsonl` and `labelmap.json`.
        wishes: how.
        progress: told of images that are through.
        rows_per_shard: images of a shard, less those that are set aside.

    Returns:
        What was done, a line each.

    Raises:
        StorageError: The tables as a whole cannot be read.
        FlowError: `out` is in use, or what is wished does not fit the tables.
    """
    known = wishes.label_map or tables / LABEL_MAP
    has_map = wishes.label_map is not None or known.is_file()
    label_map = read_label_map(known) if has_map else None
    mark = _mark(tables, known if has_map else None, wishes, rows_per_shard)
    _check_free(out, mark)
    found = PublishedTables(tables, label_map)
    settings = _settings(found, wishes)
    atomic_write_json(out / MARK, mark)
    remove_partials(out)
    place = Place(out / REGIONS)
    place.remove(MANIFEST_NAME)
    work = _Import(found, settings, wishes, place, has_map=has_map)
    reports = list(work.shards(progress, rows_per_shard))
    dropped = [entry for report in reports for entry in report.quarantined]
    write_quarantine(out / QUARANTINE_NAME, dropped)
    write_label_map(out / LABEL_MAP, found.label_map)
    num_images = finish_slices(place, settings, reports).num_rows
    check_balance(
        "import-regions", num_in=len(found), num_out=num_images, num_quarantined=len(dropped)
    )
    lines = [
        f"{len(found)} images in = {num_images} written + {len(dropped)} set aside",
        f"features {settings.feature_width} wide, {settings.geometry}, {settings.dtype}",
        f"{out / REGIONS}   (look: oscar-flow shard {out / REGIONS})",
    ]
    if not found.orders and wishes.order is None:
        lines.append(
            f"its features hold no box numbers; theirs are {WIDTH_FIRST}, as nobody said; else "
            f"--order {HEIGHT_FIRST}"
        )
    lines += [f"set aside, {reason}: {num}" for reason, num in count_reasons(dropped).items()]
    return [*lines, f"reasons in {out / QUARANTINE_NAME}"] if dropped else lines


class _Import:
    """Takes the images in, shard by shard."""

    def __init__(
        self,
        found: PublishedTables,
        settings: RegionSettings,
        wishes: ImportWishes,
        place: Place,
        *,
        has_map: bool,
    ) -> None:
        self._found = found
        self._settings = settings
        self._wishes = wishes
        self._place = place
        self._has_map = has_map
        self._seen = SeenKeys()

    def shards(self, progress: Progress, rows_per_shard: int) -> Iterator[ShardReport]:
        """Write every shard that is not there yet."""
        num, total = 0, len(self._found)
        progress.at(num, total, unit="images")
        for number, keys in enumerate(chunks(self._found.keys, rows_per_shard)):
            yield self._shard(number, keys)
            num += len(keys)
            progress.at(num, total, unit="images")

    def _shard(self, number: int, keys: Sequence[str]) -> ShardReport:
        named = [(key, self._image_id(key)) for key in keys]
        stretch = slice_key(number, (image_id for _, image_id in named))
        there = read_slice(self._place, stretch, self._settings)
        if there is not None:
            self._go_over(named, there.entry.file)
            return there
        records: list[ImageRegions] = []
        dropped: list[Quarantined] = []
        for key, image_id in named:
            read = self._read(key, image_id)
            if isinstance(read, Quarantined):
                dropped.append(read)
            else:
                records.append(read)
        return write_slice(self._place, stretch, self._settings, records, dropped)

    def _image_id(self, key: str) -> str:
        is_number = key.isascii() and key.isdecimal()
        name = key.zfill(self._wishes.digits) if is_number else key
        return image_id_of(self._wishes.namespace, name)

    def _read(self, key: str, image_id: str) -> ImageRegions | Quarantined:
        if not self._seen.add(image_id):
            return Quarantined(
                image_id=image_id,
                reason="duplicate-id",
                detail=f"{self._found.folder}: {key!r} is a second image {image_id!r}",
            )
        record = self._found.read(key, image_id, keeps_numbers=not self._wishes.splits_boxes)
        if isinstance(record, Quarantined):
            return record
        try:
            return as_stored(record, self._settings)
        except RecordError as error:  # beyond float16
            return Quarantined(image_id=image_id, reason="damaged-features", detail=str(error))

    def _go_over(self, named: Sequence[tuple[str, str]], file: str) -> None:
        """Ids and names of a shard that is there count as if it was made now.

        An image that was set aside may have brought new names, so it is read once more.
        """
        labels = {} if self._has_map else {each.image_id: each for each in self._labels(file)}
        for key, image_id in named:
            if self._has_map or image_id in labels:
                self._seen.add(image_id)
            if image_id in labels:
                self._found.remember(labels[image_id])
            elif not self._has_map:
                self._read(key, image_id)

    def _labels(self, file: str) -> Iterator[ImageLabels]:
        shard = RegionShard(self._place, file)
        for group in range(shard.num_groups):
            columns = shard.columns(group)
            yield from (columns.labels(row) for row in range(shard.num_rows(group)))


def _settings(found: PublishedTables, wishes: ImportWishes) -> RegionSettings:
    """What the shards are to be.

    Raises:
        FlowError: The features do not end with the numbers of their boxes, or in another order.
    """
    width, order = found.feature_width, wishes.order
    if found.orders and order is not None and order not in found.orders:
        raise FlowError(f"{found.folder}: the box numbers are in the order {min(found.orders)}")
    if wishes.splits_boxes and not found.orders:
        raise FlowError(f"{found.folder}: the features do not end with the numbers of their boxes")
    if found.orders and not wishes.splits_boxes:
        geometry = INCLUDED
    else:
        geometry = order or (_told(found) if found.orders else WIDTH_FIRST)
        width -= NUM_BOX_NUMBERS if wishes.splits_boxes else 0
    return RegionSettings(
        detector=DETECTOR, feature_width=width, geometry=geometry, dtype=wishes.dtype
    )


def _told(found: PublishedTables) -> str:
    """The only order that the numbers of the tables allow.

    Raises:
        FlowError: They allow both.
    """
    if len(found.orders) == 1:
        return min(found.orders)
    raise FlowError(
        f"{found.folder}: the order of the last two box numbers cannot be told from the tables; "
        f"say --order {HEIGHT_FIRST} or --order {WIDTH_FIRST}"
    )


def _mark(
    tables: Path, label_map: Path | None, wishes: ImportWishes, rows_per_shard: int
) -> dict[str, Any]:
    """What an import is an import of; tables count by size and time, nobody reads them twice."""
    files = sorted(path for path in tables.glob("*") if path.suffix in (".tsv", ".lineidx"))
    marks = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    options = {**asdict(wishes), "label_map": None if label_map is None else sha256_of(label_map)}
    return {"tables": marks, "options": options, "rows_per_shard": rows_per_shard}


def _check_free(out: Path, mark: Mapping[str, Any]) -> None:
    """Refuse a folder that holds something, unless it is the same import.

    Raises:
        FlowError: It does.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        begun = json.loads((out / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FlowError(f"{out}: is there already; name a folder that is not") from None
    if begun != mark:
        raise FlowError(
            f"{out}: holds another import, of other tables or with other options; delete it, or "
            "name a folder that is not there"
        )
