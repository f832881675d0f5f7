"""Shards as slices of a list: who may keep one, who must make it anew, what travels."""

from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.places import Place
from storage.records import Quarantined
from storage.region_shards import RegionReader
from storage.region_slices import (
    RegionSettings,
    ShardReport,
    as_stored,
    bring_home,
    finish_slices,
    read_slice,
    slice_key,
    write_slice,
)
from tests.builders_storage import make_regions, many_regions, same

SETTINGS = RegionSettings(detector="d1", feature_width=8, rules="r1")
RECORDS = many_regions(3)
DROPPED = (Quarantined(image_id="照片/3", reason="truncated", detail="照片/3.jpg: cut"),)
KEY = slice_key(2, [*(record.image_id for record in RECORDS), "照片/3"])


def test_a_shard_tells_what_it_is_and_what_was_set_aside(tmp_path: Path) -> None:
    written = write_slice(Place(tmp_path), KEY, SETTINGS, RECORDS, DROPPED, num_reused=1)
    assert written.entry.file == "regions-00002.parquet"
    assert (written.entry.rows, written.num_regions, written.quarantined) == (3, 0 + 1 + 2, DROPPED)
    known = {RECORDS[1].content_hash}
    assert read_slice(Place(tmp_path), KEY, SETTINGS, known) == written
    assert ShardReport.from_json(written.as_json()) == written


def test_shards_written_in_any_order_are_one_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    keys = [slice_key(number, [record.image_id]) for number, record in enumerate(RECORDS)]
    reports = [
        write_slice(place, keys[number], SETTINGS, [RECORDS[number]]) for number in (2, 0, 1)
    ]
    (tmp_path / "regions-00007.parquet").write_bytes(b"of a longer list")
    finish_slices(place, SETTINGS, reports)
    reader = RegionReader(tmp_path)
    assert all(map(same, reader.in_order(), RECORDS))
    assert not (tmp_path / "regions-00007.parquet").exists()


def test_a_slice_whose_photos_were_all_set_aside_is_a_shard_without_rows(tmp_path: Path) -> None:
    place = Place(tmp_path)
    reports = [
        write_slice(place, slice_key(0, ["照片/3"]), SETTINGS, [], DROPPED),
        write_slice(place, slice_key(1, ["photos/0"]), SETTINGS, RECORDS[:1]),
    ]
    finish_slices(place, SETTINGS, reports)
    assert read_slice(place, slice_key(0, ["照片/3"]), SETTINGS) == reports[0]
    assert list(RegionReader(tmp_path)) == ["photos/0"]


@pytest.mark.parametrize(
    "wanted",
    [
        (slice_key(2, ["photos/0", "photos/1", "photos/2"]), SETTINGS),
        (KEY, replace(SETTINGS, detector="d2")),
        (KEY, replace(SETTINGS, rules="r2")),
        (KEY, replace(SETTINGS, dtype="float32")),
    ],
)
def test_a_shard_of_other_photos_or_settings_is_not_kept(tmp_path: Path, wanted: tuple) -> None:
    write_slice(Place(tmp_path), KEY, SETTINGS, RECORDS, DROPPED)
    assert read_slice(Place(tmp_path), KEY, SETTINGS) is not None
    assert read_slice(Place(tmp_path), *wanted) is None


def test_a_shard_that_is_missing_cut_or_changed_is_not_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert read_slice(place, KEY, SETTINGS) is None
    write_slice(place, KEY, SETTINGS, RECORDS, DROPPED)
    shard = tmp_path / KEY.file
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    assert read_slice(place, KEY, SETTINGS) is None
    at = whole.index(RECORDS[2].features.tobytes())
    shard.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert read_slice(place, KEY, SETTINGS) is None


def test_an_image_is_in_a_shard_once(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"regions-00002\.parquet: regions of an image added twi"):
        write_slice(Place(tmp_path), KEY, SETTINGS, [RECORDS[0], RECORDS[0]])


def test_a_feature_beyond_float16_says_what_to_set() -> None:
    record = replace(RECORDS[2], features=np.full((2, 8), 70_000, np.float32))
    with pytest.raises(RecordError, match=r"beyond float16; keep features as float32"):
        as_stored(record, SETTINGS)
    wide = replace(SETTINGS, dtype="float32")
    assert as_stored(record, wide) is record


def test_a_shard_is_brought_home_once_and_only_whole(tmp_path: Path) -> None:
    home, desk = Place(tmp_path), Place("memory://desk/a")
    report = write_slice(desk, KEY, SETTINGS, RECORDS, DROPPED)
    store = fsspec.filesystem("memory")
    try:
        bring_home(desk, home, report)
        assert read_slice(home, KEY, SETTINGS) == report
        written = (tmp_path / KEY.file).stat().st_mtime_ns
        bring_home(desk, home, report)
        assert (tmp_path / KEY.file).stat().st_mtime_ns == written
        store.pipe_file(f"/desk/a/{KEY.file}", b"something else")
        home.remove(KEY.file)
        with pytest.raises(DamagedFileError, match=r"desk/a/regions-00002\.parquet: arriv"):
            bring_home(desk, home, report)
        assert home.names() == []
        desk.remove(KEY.file)
        with pytest.raises(MissingFileError):
            bring_home(desk, home, report)
    finally:
        store.rm("/desk", recursive=True)


def test_what_a_shard_says_of_itself_is_no_setting_of_the_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    finish_slices(place, SETTINGS, [write_slice(place, KEY, SETTINGS, [make_regions()])])
    assert dict(RegionReader(tmp_path).manifest.settings) == {
        "detector": "d1",
        "dtype": "float16",
        "feature_width": "8",
        "geometry": "width_first",
        "rules": "r1",
    }
