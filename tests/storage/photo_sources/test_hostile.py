"""Damaged and hostile containers: one line, or what is wrong set aside and the rest kept."""

import base64
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import DamagedFileError, StorageError, UnreadableImageError
from storage.images import read_photo
from storage.photo_files import read_source
from storage.photo_sources.collection import Collection, photos_in
from storage.photo_sources.found import Found
from storage.photo_sources.tar import BLOCK
from storage.records import Cell, ImageSource, Quarantined, Stretch
from tests.builders_photos import lay_parquet, lay_table, lay_tar, picture, pictures


def parted(found: list[Found]) -> tuple[list[str], list[str]]:
    """Ids of photos, and reasons why other things are none."""
    return (
        [each.image_id for each in found if isinstance(each, ImageSource)],
        [each.reason for each in found if isinstance(each, Quarantined)],
    )


def attempt(call: Callable[[], Any]) -> Any:
    """What comes of it, an error of storage included."""
    try:
        return call()
    except StorageError as error:
        return error


def in_place(path: Path) -> list[Found]:
    return list(photos_in(Collection(place=path)))


def test_a_tar_that_was_cut_gives_what_is_whole_and_says_what_is_not(tmp_path: Path) -> None:
    path = lay_tar(tmp_path / "x.tar", pictures(4))
    content = path.read_bytes()
    starts = [each.part.start for each in in_place(path) if isinstance(each, ImageSource)
              and isinstance(each.part, Stretch)]  # fmt: skip
    for cut, ids, reasons in (
        (starts[2] + 5, ["p0", "b/p1"], ["truncated", "archive-cut"]),
        (starts[2] - BLOCK, ["p0", "b/p1"], ["archive-cut"]),
        (starts[2] - 7, ["p0", "b/p1"], ["archive-cut"]),
    ):
        path.write_bytes(content[:cut])
        assert parted(in_place(path)) == (ids, reasons)


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = lay_tar(tmp_path / "x.tar", pictures(4))
    content = bytearray(path.read_bytes())
    (third,) = (each.part for each in in_place(path) if each.image_id == "p2")
    assert isinstance(third, Stretch)
    content[third.start - BLOCK + 3] ^= 0x20
    path.write_bytes(content)
    assert parted(in_place(path)) == (["p0", "b/p1"], ["archive-damaged"])
    path.write_bytes(b"x" * 600 + bytes(content))
    with pytest.raises(StorageError):
        list(photos_in(Collection(place=path, kind="tar")))


def test_a_member_that_claims_more_than_there_is_reads_nothing(tmp_path: Path) -> None:
    member = tarfile.TarInfo("huge.png")
    member.size = 1 << 40
    path = tmp_path / "x.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"some bytes")
    assert parted(in_place(path)) == ([], ["truncated", "archive-cut"])
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, 1 << 33
    path.write_bytes(lay_tar(path, {"a": picture(1)}).read_bytes()[: 3 * BLOCK])
    head = path.read_bytes()[: 2 * BLOCK]
    path.write_bytes(head + pax.tobuf(tarfile.GNU_FORMAT) + bytes(BLOCK))
    assert parted(in_place(path)) == (["a"], ["archive-damaged"])


@pytest.mark.parametrize("size", [b"-0000001000\0", b"-1         \0", b"1_0        \0"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE])
def test_a_size_with_a_sign_does_not_lead_back(tmp_path: Path, size: bytes, kind: bytes) -> None:
    first = lay_tar(tmp_path / "x.tar", {"a": picture(1)}, tarfile.GNU_FORMAT)
    member = tarfile.TarInfo("b.png")
    member.type = kind
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[148:156] = size, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (photo,) = in_place(first)
    assert isinstance(photo, ImageSource)
    assert isinstance(photo.part, Stretch)
    end = -(-(photo.part.start + photo.part.num_bytes) // BLOCK) * BLOCK
    first.write_bytes(first.read_bytes()[:end] + header + bytes(2 * BLOCK))
    found = list(islice(photos_in(Collection(place=first)), 9))
    assert parted(found) == (["a"], ["archive-damaged"])


def test_what_follows_the_end_mark_is_not_lost_in_silence(tmp_path: Path) -> None:
    path = lay_tar(tmp_path / "x.tar", pictures(2))
    whole = path.read_bytes()
    assert parted(in_place(path))[1] == []
    path.write_bytes(whole + whole)
    assert parted(in_place(path)) == (["p0", "b/p1"], ["archive-damaged"])


@given(damage=st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 255)), max_size=6),
       cut=st.integers(0, 8000))  # fmt: skip
def test_no_bytes_of_a_tar_do_more_than_a_storage_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.tar"
    content = bytearray(lay_tar(path, pictures(3), tarfile.PAX_FORMAT).read_bytes())
    for at, value in damage:
        content[at] = value
    path.write_bytes(content[: len(content) - cut])
    found = attempt(lambda: list(photos_in(Collection(place=path, kind="tar"))))
    assert "\n" not in str(found) or not isinstance(found, StorageError)
    for each in found if isinstance(found, list) else ():
        if isinstance(each, ImageSource):
            read = attempt(lambda each=each: read_photo(each))
            assert isinstance(read, bytes) or read.reason in ("empty-file", "truncated")


def test_rows_that_are_no_photos_are_set_aside_one_by_one(tmp_path: Path) -> None:
    good = base64.b64encode(picture(4))
    path = tmp_path / "x.tsv"
    path.write_bytes(
        b"a\t" + good + b"\nno tab here\n\n\t" + good + b"\nbad\x1b\t" + good + b"\n\xff\t" + good
        + b"\nnot64\t@@@@\nlast\textra\t" + good
    )  # fmt: skip
    ids, reasons = parted(in_place(path))
    assert ids == ["a", "not64", "last"]
    assert reasons == ["bad-row", "no-name", "name-unprintable", "name-not-utf8"]
    sources = {each.image_id: each for each in in_place(path) if isinstance(each, ImageSource)}
    assert read_photo(sources["last"]) == picture(4)
    with pytest.raises(UnreadableImageError, match="its last column is no base64"):
        read_photo(sources["not64"])


def test_an_index_or_sizes_of_another_table_are_refused(tmp_path: Path) -> None:
    path = lay_table(tmp_path / "x.tsv", pictures(4))
    index, sizes = path.with_suffix(".lineidx"), path.with_suffix(".hw.tsv")
    lines = index.read_text().splitlines()
    for wrong in ([*lines[:2], "7", lines[3]], lines[:3], [*lines, "9"], ["x", *lines[1:]]):
        index.write_text("\n".join(wrong) + "\n")
        with pytest.raises(DamagedFileError, match=r"x\.lineidx: .* delete it"):
            in_place(path)
    index.unlink()
    rows = sizes.read_text().splitlines()
    for wrong in (rows[::-1], rows[:3], [*rows, rows[0]], ["p0\t[]", *rows[1:]],
                  ['p0\t{"height": Infinity, "width": 5}', *rows[1:]]):  # fmt: skip
        sizes.write_text("\n".join(wrong) + "\n")
        with pytest.raises(DamagedFileError, match=r"x\.hw\.tsv: .*another table"):
            list(photos_in(Collection(place=path, sizes=sizes)))


def test_a_row_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    fields = (base64.b64encode(content) for content in (b"x" * 6000, b"y" * 10))
    path.write_bytes(b"".join(b"key\t" + field + b"\n" for field in fields))
    long, short = (each for each in in_place(path) if isinstance(each, ImageSource))
    with pytest.raises(UnreadableImageError, match="more than 2000 bytes"):
        read_source(long, 2000)
    assert read_source(short, 10) == b"y" * 10


def test_a_container_that_became_shorter_is_told_photo_by_photo(tmp_path: Path) -> None:
    path = lay_tar(tmp_path / "x.tar", pictures(3))
    sources = [each for each in in_place(path) if isinstance(each, ImageSource)]
    path.write_bytes(path.read_bytes()[: 3 * BLOCK])
    assert read_photo(sources[0]) == pictures(3)["p0"]
    with pytest.raises(UnreadableImageError, match="ends before it"):
        read_photo(sources[2])


def test_a_damaged_group_costs_its_photos_and_no_others(tmp_path: Path) -> None:
    photos = {f"p{at}": bytes([at]) * 400 for at in range(12)}
    rows = [{"image_id": name, "jpg": content} for name, content in photos.items()]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4, compression="gzip",
                   use_dictionary=False, write_page_checksum=True)  # fmt: skip
    chunk = pq.read_metadata(path).row_group(1).column(1)
    content = bytearray(path.read_bytes())
    middle = chunk.data_page_offset + chunk.total_compressed_size - 12
    content[middle : middle + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    read: dict[str, bytes | str] = {}
    for source in in_place(path):
        assert isinstance(source, ImageSource)
        try:
            read[source.image_id] = read_photo(source)
        except UnreadableImageError as error:
            read[source.image_id] = error.reason
    assert read == {
        name: "unreadable" if 4 <= at < 8 else photos[name] for at, name in enumerate(photos)
    }


def test_rows_of_a_group_can_be_asked_for_in_any_order(tmp_path: Path) -> None:
    photos = {f"p{at:03d}": b"%03d" % at for at in range(200)}
    path = lay_parquet(tmp_path / "x.parquet", photos, rows_per_group=150)
    sources = [each for each in in_place(path) if isinstance(each, ImageSource)]
    for at in (0, 199, 3, 149, 150, 2, 77, 1):
        assert read_photo(sources[at]) == b"%03d" % at
    beyond = ImageSource(image_id="x", path=path, part=Cell(group=1, row=99, column="image.bytes"))
    with pytest.raises(UnreadableImageError, match="has no row 99"):
        read_photo(beyond)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [b"x"], "b": [b"y"]}, "no column of photos' bytes"),
        ({"jpg": [b"x"], "png": [b"y"]}, "several columns of photos' bytes; .*photo_column"),
        ({"text": ["x"]}, r"no column of photos' bytes; .*text \(string\)"),
    ],
)
def test_a_table_without_clear_photos_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], said: str
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DamagedFileError, match=said):
        in_place(tmp_path / "x.parquet")


def test_columns_are_taken_as_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table = pa.table({"jpg": [b"x"], "png": [b"y"], "nr": [7], "score": [0.5]})
    pq.write_table(table, path)
    (source,) = photos_in(Collection(place=path, photo_column="png", id_column="nr"))
    assert isinstance(source, ImageSource)
    assert (source.image_id, read_photo(source)) == ("7", b"y")
    with pytest.raises(DamagedFileError, match="no column 'score' of texts"):
        list(photos_in(Collection(place=path, photo_column="png", id_column="score")))
    (nameless,) = photos_in(Collection(place=path, photo_column="png"))
    assert nameless.image_id == "x/00000000"


def test_parquet_that_was_cut_is_one_line(tmp_path: Path) -> None:
    path = lay_parquet(tmp_path / "x.parquet", pictures(5))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedFileError, match="no whole Parquet file") as caught:
        in_place(path)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_missing_are_no_photo(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": pa.array([None, b""], pa.binary())}), tmp_path / "x.parquet")
    for source in in_place(tmp_path / "x.parquet"):
        assert isinstance(source, ImageSource)
        with pytest.raises(UnreadableImageError, match="the file has no bytes"):
            read_photo(source)
