"""Records of an earlier extraction are found by the bytes of the photo."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from storage.earlier_regions import open_earlier
from storage.records import ImageRegions
from storage.region_slices import RegionSettings
from tests.builders_storage import many_regions, same, write_regions

SETTINGS = RegionSettings(detector="d1", feature_width=8)
RECORDS = many_regions(9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_regions(tmp_path, RECORDS)
    return tmp_path


def test_a_photo_of_the_same_bytes_is_known_under_any_name(folder: Path) -> None:
    earlier = open_earlier(folder, SETTINGS)
    assert earlier is not None
    known = RECORDS[5]
    assert same(earlier.find("photos/5", known.content_hash), known)
    renamed = earlier.find("photos/new name", known.content_hash)
    assert same(renamed, replace(known, image_id="photos/new name"))
    assert known.content_hash in earlier.hashes


def test_other_bytes_under_a_known_name_are_not_known(folder: Path) -> None:
    earlier = open_earlier(folder, SETTINGS)
    assert earlier is not None
    assert earlier.find("photos/5", "f" * 64) is None
    assert "f" * 64 not in earlier.hashes


def test_names_may_have_been_exchanged(folder: Path) -> None:
    earlier = open_earlier(folder, SETTINGS)
    assert earlier is not None
    found = earlier.find("photos/5", RECORDS[6].content_hash)
    assert same(found, replace(RECORDS[6], image_id="photos/5"))


def test_a_damaged_shard_counts_as_not_there_and_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = folder / "regions-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[content.index(RECORDS[6].features.tobytes())] ^= 1
    shard.write_bytes(content)
    earlier = open_earlier(folder, SETTINGS)
    assert earlier is not None

    def find(record: ImageRegions) -> ImageRegions | None:
        return earlier.find(record.image_id, record.content_hash)

    with caplog.at_level(logging.WARNING):
        assert [find(record) is not None for record in RECORDS] == [True] * 4 + [False] * 4 + [True]
    assert [record.message.count("regions-00001.parquet") for record in caplog.records] == [1]


@pytest.mark.parametrize("other", [{"detector": "d2"}, {"dtype": "float32"}, {"rules": "r2"}])
def test_records_of_other_settings_are_not_taken(folder: Path, other: dict) -> None:
    assert open_earlier(folder, replace(SETTINGS, **other)) is None


def test_an_incomplete_folder_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "manifest.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert open_earlier(folder, SETTINGS) is None
    assert "nothing is taken from it" in caplog.text


def test_of_two_images_of_the_same_bytes_the_last_is_taken(tmp_path: Path) -> None:
    twins = [replace(record, content_hash="a" * 64) for record in RECORDS[:2]]
    write_regions(tmp_path, [*twins, RECORDS[2]])
    earlier = open_earlier(tmp_path, SETTINGS)
    assert earlier is not None
    assert same(earlier.find("photos/new", "a" * 64), replace(twins[1], image_id="photos/new"))
    assert same(earlier.find(twins[0].image_id, "a" * 64), twins[0])
