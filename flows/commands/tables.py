"""Region shards as the tables of the Oscar family: `oscar-flow export-regions`."""

from pathlib import Path
from typing import Literal

from flows.balance import Counting
from flows.commands.trained import output_of
from flows.errors import FlowError
from flows.run_folder import RunFolder
from flows.stored_regions import REGIONS, shards_in
from oscar_core.regions import region_inputs
from storage.box_numbers import NUM_BOX_NUMBERS
from storage.errors import MissingFileError, RecordError
from storage.published.vinvl_tables import Layout, TableRow, write_tables
from storage.records import INCLUDED, ImageRegions
from storage.region_shards import RegionReader

Keys = Literal["name", "id"]
Order = Literal["width_first", "height_first"]


def export_regions(
    source: str, out: Path, *, layout: Layout, keys: Keys = "name", order: Order | None = None
) -> list[str]:
    """Write the regions of a run, or of a folder of shards, as tables.

    Args:
        source: folder of a run, of an import or of region shards, or a URL of the latter.
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


def _shards_of(source: str) -> str | Path:
    """The region shards of a run or of a folder; a URL is the place itself.

    Raises:
        MissingFileError: There are none.
    """
    if "://" in source:
        return source
    if RunFolder(Path(source)).steps.is_file():
        return output_of(Path(source), "detect", REGIONS)
    shards = shards_in(Path(source))
    if shards is None:
        raise MissingFileError(f"{source}: no run and no finished folder of region shards")
    return shards


def _check_free(out: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        FlowError: It does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FlowError(f"{out}: is there already; name a folder that is not")
