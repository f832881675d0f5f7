"""Places, manifests, quarantine lists and JSON of others."""

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest

from storage.describe import describe_shard
from storage.errors import AnnotationError, DamagedFileError, MissingFileError, StorageError
from storage.json_files import read_json
from storage.manifest import entry_of, read_manifest, verify_shard, write_manifest
from storage.places import Place
from storage.quarantine import count_reasons, read_quarantine, write_quarantine
from storage.records import Quarantined
from storage.region_shards import RegionReader
from storage.shards import open_shard
from storage.tag_shards import write_tags
from tests.builders_storage import make_tags, many_regions, write_regions


@pytest.fixture(params=["folder", "memory", "file-url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    where = {
        "folder": str(tmp_path / "p"),
        "memory": f"memory://{uuid4()}",
        "file-url": f"file://{tmp_path}/p",
    }
    return Place(where[request.param])


def test_a_place_keeps_lists_and_forgets_files(place: Place) -> None:
    assert place.names() == []
    place.write("b", b"two")
    place.write("a", b"one")
    place.write("a", b"three")
    assert place.names() == ["a", "b"]
    assert (place.read("a"), place.size("a")) == (b"three", 5)
    with place.open("b") as stream:
        assert stream.read() == b"two"
    place.remove("a")
    place.remove("a")
    assert place.names() == ["b"]


def test_a_missing_file_is_named(place: Place) -> None:
    for ask in (place.read, place.size, place.sha256, place.open):
        with pytest.raises(MissingFileError, match=r"/nothing: no such file"):
            ask("nothing")


def test_a_failed_write_leaves_nothing(place: Place) -> None:
    def failing() -> None:
        with place.writing("a") as path:
            path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert place.names() == []


def test_an_unknown_protocol_is_one_line() -> None:
    with pytest.raises(StorageError, match="nowhere://x"):
        Place("nowhere://x")


def test_a_manifest_comes_back_and_verifies(place: Place) -> None:
    place.write("regions-00000.parquet", b"bytes")
    entry = entry_of(place, "regions-00000.parquet", 3)
    write_manifest(place, "regions", {"b": "1", "a": "狗"}, [entry])
    manifest = read_manifest(place, "regions")
    assert manifest.shards == (entry,)
    assert dict(manifest.settings) == {"b": "1", "a": "狗"}
    assert manifest.num_rows == 3
    verify_shard(place, entry)
    place.write("regions-00000.parquet", b"BYTES")
    verify_shard(place, entry, read_all=False)
    with pytest.raises(DamagedFileError, match=r"regions-00000\.parquet: bytes changed"):
        verify_shard(place, entry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "tags"}, "a folder of 'tags', expected 'regions'"),
        ({"schema_version": 99}, "schema version 99, this program reads"),
        ({"shards": None}, "not a manifest"),
        ({"shards": [{"file": "../x", "rows": 1, "size": 1, "sha256": ""}]}, "is no file of"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_manifest(Place(tmp_path), "regions", {}, [])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedFileError, match=message):
        read_manifest(Place(tmp_path), "regions")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]"])
def test_a_broken_manifest_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"manifest\.json") as caught:
        read_manifest(Place(tmp_path), "regions")
    assert "\n" not in str(caught.value)


def test_a_shard_of_another_kind_or_no_shard_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_regions(tmp_path / "r", many_regions(1))
    with pytest.raises(DamagedFileError, match="kind 'regions', expected 'tags'"):
        open_shard(Place(tmp_path / "r"), "regions-00000.parquet", "tags")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DamagedFileError, match="none of ours"):
        open_shard(Place(tmp_path), "x.parquet", "tags")
    with pytest.raises(DamagedFileError, match="not a shard of this program"):
        list(describe_shard(tmp_path / "x.parquet"))


def test_quarantine_lists_come_back(tmp_path: Path) -> None:
    entries = [
        Quarantined(image_id="a/1", reason="truncated", detail="第一"),
        Quarantined(image_id="\udcff", reason="name", detail="x"),
        Quarantined(image_id="a/2", reason="truncated", detail="y"),
    ]
    assert write_quarantine(tmp_path / "q.jsonl", entries) == 3
    assert read_quarantine(tmp_path / "q.jsonl") == entries
    assert count_reasons(entries) == {"truncated": 2, "name": 1}
    assert write_quarantine(tmp_path / "q.jsonl", []) == 0
    assert read_quarantine(tmp_path / "q.jsonl") == []


@pytest.mark.parametrize("content", ["{", "[]", '{"image_id": "x"}'])
def test_a_broken_quarantine_list_names_the_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"image_id": "x", "reason": "y", "detail": "z"}\n' + content)
    with pytest.raises(DamagedFileError, match="line 2"):
        read_quarantine(path)
    with pytest.raises(MissingFileError):
        read_quarantine(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b"', r"not JSON at byte 12 of 12"),
        ('{"狗": }'.encode(), r"not JSON at byte 8 of 9"),
        (b"", "the file is empty"),
        (b'{"a": "\xc4\xe3"}', "byte 7 is not UTF-8"),
        (b'{"a": 1, "a": 2}', "key 'a' occurs twice"),
    ],
)
def test_broken_json_tells_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=message) as caught:
        read_json(path, AnnotationError, refuse_repeated_keys=True)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path, AnnotationError) == [1]


def test_a_shard_is_described_readably(tmp_path: Path) -> None:
    write_regions(tmp_path / "r", many_regions(9))
    said = "\n".join(describe_shard(tmp_path / "r"))
    for part in (
        "kind      regions",
        "detector = d1",
        "rows      9 in 3 shards",
        "regions-00002.parquet  1 rows",
        "image_id          photos/0",
        "features          1 x 8, 16 bytes",
        "... and 1 more rows",
    ):
        assert part in said
    one = list(describe_shard(tmp_path / "r" / "regions-00001.parquet"))
    assert one[0].endswith("regions-00001.parquet")
    assert all(len(line) < 150 for line in one)


def test_a_place_in_memory_is_described_alike(tmp_path: Path) -> None:
    tags = [make_tags(regions) for regions in many_regions(2)]
    where = f"memory://{uuid4()}"
    write_tags(where, tags)
    write_tags(tmp_path, tags)
    far, near = list(describe_shard(where)), list(describe_shard(tmp_path))
    assert [line for line in far if where not in line] == [
        line for line in near if str(tmp_path) not in line
    ]
    assert any(re.search(r"language +zh", line) for line in far)


def test_a_folder_with_a_damaged_shard_is_described_and_the_damage_named(tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(9))
    shard = tmp_path / "regions-00000.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    said: list[str] = []
    with pytest.raises(DamagedFileError, match=r"regions-00000\.parquet: bytes changed"):
        said.extend(describe_shard(tmp_path))
    assert any(line.startswith("  regions-00000") and line.endswith("damaged") for line in said)
    assert any(line.endswith("regions-00001.parquet") for line in said)  # its first rows follow


def test_describing_nothing_or_a_cut_shard_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no shards and no manifest"):
        list(describe_shard(tmp_path))
    write_regions(tmp_path, many_regions(9))
    shard = tmp_path / "regions-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="write interrupted"):
        list(describe_shard(shard))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(MissingFileError, match="3 shards but no manifest"):
        list(describe_shard(tmp_path))
    with pytest.raises(MissingFileError, match="incomplete"):
        RegionReader(tmp_path)
