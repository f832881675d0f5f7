"""Region shards as the tables of the Oscar family and back: `export-regions`, `import-regions`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.balance import Counting, check_balance
from flows.commands.trained import output_of
from flows.errors import FlowError
from flows.run_folder import RunFolder
from oscar_core.regions import region_inputs
from storage.box_numbers import NUM_BOX_NUMBERS
from storage.errors import RecordError
from storage.published.label_maps import read_label_map, write_label_map
from storage.published.vinvl_import import PublishedTables
from storage.published.vinvl_tables import Layout, TableRow, write_tables
from storage.quarantine import QUARANTINE_NAME, count_reasons, write_quarantine
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST, ImageRegions, Quarantined
from storage.region_shards import RegionReader
from storage.region_slices import RegionSettings, as_stored, write_regions

Keys = Literal["name", "id"]
Order = Literal["width_first", "height_first"]
LABEL_MAP = "labelmap.json"
REGIONS = "regions"
DETECTOR = "published"
"""What stands for the detector's fingerprint: nobody published one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWishes:
    """How tables are taken in.

    namespace:     put before each image key; "" for none
    label_map:     numbers of the names; None: `labelmap.json` of the tables, else by occurrence
    splits_boxes:  the last six numbers are checked against the boxes and left out, so that the
                   shards are as our own extraction writes them; else they stay in the features
    order:         of the last two numbers, where the tables do not tell
    dtype:         in which features are kept; float32 is what is published
    """

    namespace: str = ""
    label_map: Path | None = None
    splits_boxes: bool = False
    order: Order | None = None
    dtype: Literal["float16", "float32"] = "float32"


def export_regions(
    source: str, out: Path, *, layout: Layout, keys: Keys = "name", order: Order | None = None
) -> list[str]:
    """Write the regions of a run, or of a folder of shards, as tables.

    Args:
        source: folder of a run, or folder or URL of region shards.
        out: becomes the folder of the tables.
        layout: which tables (`storage.published.vinvl_tables`).
        keys: first column: the last part of an image id, or all of it.
        order: of the last two box numbers; None: as the shards say.

    Returns:
        What was done, a line each.

    Raises:
        StorageError: The shards are damaged, or two images would have one key.
        FlowError: `out` is in use, or the shards hold their box numbers in one order already.
    """
    _check_free(out)
    reader = RegionReader(_shards_of(source))
    if reader.geometry == INCLUDED and order is not None:
        raise FlowError(f"{source}: the features hold their box numbers already; leave out --order")
    geometry = order or reader.geometry
    has_numbers = reader.geometry == INCLUDED
    width = reader.feature_width - NUM_BOX_NUMBERS if has_numbers else reader.feature_width
    counted = Counting[ImageRegions]()
    rows = (
        TableRow(
            key=regions.image_id if keys == "id" else regions.image_id.rpartition("/")[2],
            regions=regions,
            inputs=region_inputs(regions, geometry),
            width=width,
        )
        for regions in counted.through(reader.in_order())
    )
    try:
        tables = write_tables(out, rows, layout)
    except RecordError as error:
        hint = "; take the whole image id as key: --keys id" if keys == "name" else ""
        raise RecordError(f"{error}{hint}") from error
    what = f"{width} + {NUM_BOX_NUMBERS} numbers, {geometry}" if layout != "predictions" else width
    return [f"{counted.num} images, features of {what}", *map(str, tables)]


def import_regions(tables: Path, out: Path, wishes: ImportWishes) -> list[str]:
    """Turn tables of the Oscar family into region shards; what is damaged is set aside.

    Args:
        tables: their folder.
        out: becomes the folder of `regions`, `quarantine.jsonl` and `labelmap.json`.
        wishes: how.

    Returns:
        What was done, a line each.

    Raises:
        StorageError: The tables as a whole cannot be read.
        FlowError: `out` is in use, or what is wished does not fit the tables.
    """
    _check_free(out)
    known = wishes.label_map or tables / LABEL_MAP
    has_map = wishes.label_map is not None or known.is_file()
    found = PublishedTables(tables, read_label_map(known) if has_map else None)
    settings = _settings(found, wishes)
    dropped: list[Quarantined] = []
    counted = Counting[ImageRegions]()
    kept = counted.through(_kept(found, settings, wishes, dropped))
    num_images = write_regions(out / REGIONS, kept, settings).num_rows
    write_quarantine(out / QUARANTINE_NAME, dropped)
    write_label_map(out / LABEL_MAP, found.label_map)
    check_balance(
        "import-regions", num_in=len(found), num_out=num_images, num_quarantined=len(dropped)
    )
    lines = [
        f"{len(found)} images in = {num_images} written + {len(dropped)} set aside",
        f"features {settings.feature_width} wide, {settings.geometry}, {settings.dtype}",
        f"{out / REGIONS}   (look: oscar-flow shard {out / REGIONS})",
    ]
    lines += [f"set aside, {reason}: {num}" for reason, num in count_reasons(dropped).items()]
    return [*lines, f"reasons in {out / QUARANTINE_NAME}"] if dropped else lines


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
        geometry = order or _told(found)
        width -= NUM_BOX_NUMBERS if wishes.splits_boxes else 0
    return RegionSettings(
        detector=DETECTOR, feature_width=width, geometry=geometry, dtype=wishes.dtype
    )


def _told(found: PublishedTables) -> str:
    """The only order that the tables allow.

    Raises:
        FlowError: They allow both.
    """
    if len(found.orders) == 1:
        return min(found.orders)
    raise FlowError(
        f"{found.folder}: the order of the last two box numbers cannot be told from the tables; "
        f"say --order {HEIGHT_FIRST} or --order {WIDTH_FIRST}"
    )


def _kept(
    found: PublishedTables,
    settings: RegionSettings,
    wishes: ImportWishes,
    dropped: list[Quarantined],
) -> Iterator[ImageRegions]:
    """The usable images as they are stored; the others are added to `dropped`."""
    keeps_numbers = not wishes.splits_boxes
    for record in found.records(wishes.namespace, keeps_numbers=keeps_numbers):
        if isinstance(record, Quarantined):
            dropped.append(record)
            continue
        try:
            yield as_stored(record, settings)
        except RecordError as error:  # beyond float16
            dropped.append(
                Quarantined(image_id=record.image_id, reason="damaged-features", detail=str(error))
            )


def _shards_of(source: str) -> str | Path:
    """The region shards of a run, or the place itself."""
    if "://" in source or not RunFolder(Path(source)).steps.is_file():
        return source if "://" in source else Path(source)
    return output_of(Path(source), "detect", REGIONS)


def _check_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        FlowError: It does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FlowError(f"{out}: is there already; name a folder that is not")
