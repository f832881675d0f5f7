"""Every kind of collection gives the same photos under the same ids."""

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest

from storage.errors import MissingFileError, StorageError
from storage.images import decode, read_photo
from storage.photo_sources.collection import Collection, kind_of, photos_in
from storage.photo_sources.dataset_yaml import TableFiles, read_dataset_yaml
from storage.records import ImageSource, Quarantined
from tests.builders_photos import (
    lay_coco,
    lay_folder,
    lay_parquet,
    lay_table,
    lay_tar,
    picture,
    pictures,
)


def read(collection: Collection) -> dict[str, bytes]:
    """Image ids and files; nothing may be set aside."""
    found = list(photos_in(collection))
    assert all(isinstance(each, ImageSource) for each in found), found
    return {each.image_id: read_photo(each) for each in found}


def lay_list(path: Path, photos: dict[str, bytes]) -> Collection:
    lay_folder(path / "photos", photos)
    (path / "photos" / "other.png").write_bytes(b"not listed")
    (path / "list.txt").write_text("".join(f"{name}.png\r\n\n" for name in photos))
    return Collection(place=path / "photos", listing=path / "list.txt", namespace="n")


def lay_listed_by_coco(path: Path, photos: dict[str, bytes]) -> Collection:
    lay_folder(path / "photos", photos)
    listing = lay_coco(path / "instances.json", photos)
    return Collection(place=path / "photos", listing=listing, namespace="n")


KINDS: dict[str, Callable[[Path, dict[str, bytes]], Collection]] = {
    "folder": lambda path, photos: Collection(
        place=lay_folder(path / "photos", photos), namespace="n"
    ),
    "tar": lambda path, photos: Collection(place=lay_tar(path / "x.tar", photos), namespace="n"),
    "gnu tar": lambda path, photos: Collection(
        place=lay_tar(path / "x.tar", photos, tarfile.GNU_FORMAT), namespace="n"
    ),
    "pax tar": lambda path, photos: Collection(
        place=lay_tar(path / "x.tar", photos, tarfile.PAX_FORMAT), namespace="n"
    ),
    "tsv": lambda path, photos: Collection(
        place=lay_table(path / "x.tsv", photos), sizes=path / "x.hw.tsv", namespace="n"
    ),
    "parquet": lambda path, photos: Collection(
        place=lay_parquet(path / "x.parquet", photos), namespace="n"
    ),
    "list": lay_list,
    "coco": lay_listed_by_coco,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_photos_whatever_holds_them(tmp_path: Path, kind: str) -> None:
    photos = {**pictures(7), "长" * 40 + "/" + "n" * 90: picture(77)}
    assert read(KINDS[kind](tmp_path, photos)) == {f"n/{name}": photos[name] for name in photos}


@pytest.mark.parametrize("kind", ["folder", "tar", "tsv", "parquet"])
def test_the_same_photos_behind_a_url(tmp_path: Path, kind: str) -> None:
    store = fsspec.filesystem("memory")
    photos = pictures(5)
    collection = KINDS[kind](tmp_path, photos)
    assert isinstance(collection.place, Path)
    root = f"memory://{tmp_path.name}"
    store.put(str(tmp_path), f"/{tmp_path.name}", recursive=True)
    there = f"{root}/{collection.place.relative_to(tmp_path).as_posix()}"
    try:
        remote = Collection(place=there, namespace="n")
        assert kind_of(there) == kind_of(collection.place)
        assert read(remote) == {f"n/{name}": photos[name] for name in photos}
        (first, *_) = photos_in(remote)
        assert isinstance(first, ImageSource)
        assert decode(first).content_hash == sha256(read_photo(first)).hexdigest()
    finally:
        store.rm(f"/{tmp_path.name}", recursive=True)


def test_photos_come_by_id_as_in_a_sorted_list(tmp_path: Path) -> None:
    names = ("b/a", "b.x", "b", "b-1", "a", "b/a.b")
    lay_folder(tmp_path, dict.fromkeys(names, b"x"))
    found = [each.image_id for each in photos_in(Collection(place=tmp_path, namespace=""))]
    assert found == sorted(names)


def test_what_cannot_hold_photos_is_refused_in_one_line(tmp_path: Path) -> None:
    one = tmp_path / "one.png"
    one.write_bytes(picture(3))
    packed = tmp_path / "x.tar.gz"
    packed.write_bytes(gzip.compress(lay_tar(tmp_path / "x.tar", pictures()).read_bytes()))
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(range(256)) * 4)
    (tmp_path / "empty").touch()
    for path, said in (
        (one, "one photo; name its folder"),
        (packed, "packed by gzip, .* unpack it"),
        (other, "neither a folder nor a tar"),
        (tmp_path / "empty", "the file is empty"),
    ):
        with pytest.raises(StorageError, match=f"{path.name}: {said}") as caught:
            list(photos_in(Collection(place=path)))
        assert "\n" not in str(caught.value)
    for place in (tmp_path / "none", "memory://no/such/place.tar"):
        with pytest.raises(MissingFileError, match="no such file"):
            list(photos_in(Collection(place=place)))


def test_a_list_that_leads_out_of_its_folder_is_not_followed(tmp_path: Path) -> None:
    lay_folder(tmp_path / "photos", {"a": picture(1)})
    (tmp_path / "secret.png").write_bytes(picture(2))
    inside = tmp_path / "photos" / "a.png"
    lines = ["../secret.png", str(tmp_path / "secret.png"), "/etc/passwd", "gone.png", str(inside)]
    listing = tmp_path / "list.txt"
    listing.write_bytes("\n".join(lines).encode() + b"\n\xff.png\nx\0y.png\n" + b"l" * 70_000)
    found = list(photos_in(Collection(place=tmp_path / "photos", listing=listing)))
    reasons = [each.reason for each in found if isinstance(each, Quarantined)]
    assert reasons == [*["name-outside"] * 3, "missing-file", "missing-file", "name-outside",
                       "bad-row"]  # fmt: skip
    assert [each.image_id for each in found if isinstance(each, ImageSource)] == ["a"]


def test_a_photo_of_another_size_than_its_collection_says_is_set_aside(tmp_path: Path) -> None:
    collection = lay_listed_by_coco(tmp_path, {"a": picture(1)})
    (source,) = photos_in(collection)
    assert isinstance(source, ImageSource)
    assert decode(source).pixels.shape == (16, 20, 3)
    (tmp_path / "photos" / "a.png").write_bytes(picture(1, size=(16, 20)))
    with pytest.raises(StorageError, match="16 x 20 pixels, its collection says 20 x 16"):
        decode(source)


def test_coco_entries_without_a_name_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": [{"id": 1}, 5, {"file_name": ""}, null]}')
    found = list(photos_in(Collection(place=tmp_path, listing=tmp_path / "x.json")))
    assert [each.reason for each in found if isinstance(each, Quarantined)] == ["bad-row"] * 4


def test_links_and_folders_in_a_tar_are_no_photos(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in (("d.png", tarfile.DIRTYPE), ("l.png", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        for name in ("../up.png", "/abs.png", "._hidden.png", "./fine.png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    found = list(photos_in(Collection(place=path)))
    assert [each.image_id for each in found if isinstance(each, ImageSource)] == ["fine"]
    reasons = [each.reason for each in found if isinstance(each, Quarantined)]
    assert reasons == ["not-a-file", "name-outside", "name-outside"]


def lay_dataset(path: Path, photos: dict[str, bytes], lines: str) -> Path:
    """A table with its YAML, as the original's data sets come."""
    lay_table(path / "train.tsv", photos)
    (path / "train.linelist.tsv").write_text(lines)
    (path / "train.yaml").write_text(
        "img: train.tsv\nlabel: train.label.tsv\nhw: train.hw.tsv\n"
        "labelmap: train.labelmap.tsv\nlinelist: train.linelist.tsv\n"
    )
    return path / "train.yaml"


def collection_of(files: TableFiles) -> Collection:
    return Collection(
        place=files.images, kind="tsv", sizes=files.sizes, listing=files.lines, namespace="n"
    )


def test_a_list_of_rows_chooses_and_orders_the_photos_of_a_table(tmp_path: Path) -> None:
    photos = pictures(5)
    names = list(photos)
    files = read_dataset_yaml(lay_dataset(tmp_path, photos, "3\n0\r\n\n4"))
    found = read(collection_of(files))
    assert list(found) == [f"n/{names[at]}" for at in (3, 0, 4)]
    assert found == {f"n/{names[at]}": photos[names[at]] for at in (3, 0, 4)}
    (first, *_) = photos_in(collection_of(files))
    assert isinstance(first, ImageSource)
    assert first.size == (16, 20)
    assert read(replace(collection_of(files), sizes=None)) == found
    assert read(replace(collection_of(files), kind="")) == found  # by content


def test_rows_that_are_not_there_are_set_aside(tmp_path: Path) -> None:
    files = read_dataset_yaml(lay_dataset(tmp_path, pictures(2), "1\n2\n-1\nx\n1\n"))
    found = list(photos_in(collection_of(files)))
    assert [each.image_id for each in found if isinstance(each, ImageSource)] == ["n/b/p1"] * 2
    aside = [each for each in found if isinstance(each, Quarantined)]
    assert [each.reason for each in aside] == ["no-such-row"] * 3
    assert aside[0].detail == f"{files.lines}, line 2: {files.images} has no row 2"
    assert aside[1].detail == f"{files.lines}, line 3: no number of a row"


def test_a_list_of_rows_goes_with_a_table_alone(tmp_path: Path) -> None:
    tar = lay_tar(tmp_path / "x.tar", pictures(2))
    (tmp_path / "lines").write_text("1\n")
    with pytest.raises(StorageError, match=r"x\.tar: a list names photos of a folder, or rows of"):
        photos_in(Collection(place=tar, listing=tmp_path / "lines"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("img: ../train.tsv", r"train\.yaml: img: '\.\./train\.tsv' is no file in its folder"),
        ("img: /etc/passwd", r"img: '/etc/passwd' is no file in its folder"),
        ("img: [a, b]", "is no file in its folder"),
        ("hw: train.hw.tsv", "no key 'img'"),
        ("img: train.tsv\ncomposite: true", "composite of several tables"),
        ("- img", "must be a YAML of img, hw and linelist"),
        ("img: {", "not YAML"),
        ("img: !!python/object/apply:os.getcwd []", "not YAML"),
        ("img: train.tsv\nhw: gone.tsv", r"gone\.tsv: no such file \(train\.yaml: hw\)"),
    ],
)
def test_a_yaml_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = lay_dataset(tmp_path, pictures(1), "0\n")
    path.write_text(text)
    with pytest.raises(StorageError, match=said) as error:
        read_dataset_yaml(path)
    assert "\n" not in str(error.value)
