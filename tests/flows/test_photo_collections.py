"""Collections of photos in a configuration: the plan, the list, the photos read from it."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detector.slices import Slices
from flows.commands.describe import data_of
from flows.commands.dry_run import dry_run
from flows.config import RunConfig, read_config
from flows.data import Data, PhotoCollection
from flows.digests import DigestBook
from flows.errors import ConfigError
from flows.identity import prepare
from flows.photos import LIST_NAME, read_photo_ids, read_photos, write_photos
from flows.pipeline import plan_of
from flows.run_folder import RunFolder
from flows.stages import list_images
from storage.errors import DamagedFileError, MissingFileError, StorageError
from storage.images import read_photo
from storage.quarantine import read_quarantine
from storage.records import Cell, ImageSource, Stretch
from tests.builders_photos import (
    lay_coco,
    lay_folder,
    lay_parquet,
    lay_table,
    lay_tar,
    picture,
    pictures,
)


def config_of(folder: Path, *images: PhotoCollection) -> RunConfig:
    (folder / "weights").mkdir(exist_ok=True)
    (folder / "weights" / "w").write_bytes(b"w")
    return RunConfig(data=Data(root=folder, images=images), detector_weights=folder / "weights")


def read(folder: Path, config: RunConfig) -> tuple[dict[str, bytes], list_images.Summary]:
    """What the stage lists, read as later steps read it."""
    run = RunFolder(folder / "run")
    step = prepare(plan_of(config), run, DigestBook(run.digests))["list_images"]
    images = folder / "step" / "images"
    summary = list_images.run(
        step.step.config, list_images.Inputs(**step.inputs), list_images.Outputs(images=images)
    )
    roots = step.inputs.get("photos", {})
    assert isinstance(roots, dict)
    return {each.image_id: read_photo(each) for each in read_photos(images, roots)}, summary


def test_collections_of_every_kind_in_one_run(tmp_path: Path) -> None:
    photos = pictures(4)
    lay_folder(tmp_path / "all", photos)
    lay_tar(tmp_path / "t-0.tar", photos)
    lay_tar(tmp_path / "t-1.tar", {"more": picture(9)})
    lay_table(tmp_path / "x.tsv", photos)
    lay_parquet(tmp_path / "x.parquet", photos)
    lay_folder(tmp_path / "coco", photos)
    lay_coco(tmp_path / "coco" / "instances.json", {"p0": b"", "b/p1": b""})
    (tmp_path / "names.txt").write_text("all/p2.png\n")
    (tmp_path / "x.yaml").write_text("img: x.tsv\nhw: x.hw.tsv\nlinelist: rows.txt\n")
    (tmp_path / "rows.txt").write_text("2\n0\n2\n")
    config = config_of(
        tmp_path,
        PhotoCollection(path="all", namespace="folder"),
        PhotoCollection(path="t-*.tar", namespace="tar"),
        PhotoCollection(path="x.tsv", namespace="tsv", sizes="x.hw.tsv"),
        PhotoCollection(path="x.parquet", namespace="parquet", photo_column="image"),
        PhotoCollection(path="coco/instances.json", namespace="coco"),
        PhotoCollection(path="coco", namespace="listed", list="coco/instances.json"),
        PhotoCollection(path="names.txt", namespace="lines"),
        PhotoCollection(path="x.yaml", namespace="yaml"),
    )
    found, summary = read(tmp_path, config)
    whole = {
        f"{kind}/{name}": content
        for kind in ("folder", "tar", "tsv", "parquet")
        for name, content in photos.items()
    }
    some = {
        f"{kind}/{name}": photos[name] for kind in ("coco", "listed") for name in ("p0", "b/p1")
    }
    rows = {f"yaml/{name}": photos[name] for name in ("p0", "p2")}
    more = {"tar/more": picture(9), "lines/all/p2": photos["p2"]}
    assert found == {**whole, **some, **more, **rows}
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (25, 24, 1)  # a row twice


def test_a_dry_run_looks_into_every_collection_and_tells_all_that_is_damaged(
    tmp_path: Path,
) -> None:
    lay_tar(tmp_path / "x.tar", pictures(4))
    lay_parquet(tmp_path / "y.parquet", pictures(2))
    for name in ("cut1.parquet", "cut2.parquet"):
        (tmp_path / name).write_bytes((tmp_path / "y.parquet").read_bytes()[:-20])
    names = ("cut1.parquet", "x.tar", "cut2.parquet", "y.parquet", "none.tar")
    config = config_of(tmp_path, *(PhotoCollection(path=name) for name in names))
    findings = dry_run(config, tmp_path / "run")
    found = [line.split(":")[0].rpartition("/")[2] for line in findings.problems]
    assert found.count("cut1.parquet") == found.count("cut2.parquet") == 1
    assert any("none.tar: no such folder or file" in line for line in findings.problems)
    told = "\n".join(findings.notes)
    assert "x.tar: 4 photos, 1 MB" in told
    assert "y.parquet: 2 photos, 1 MB" in told


def test_a_dry_run_names_a_file_that_a_yaml_misses_as_a_run_does(tmp_path: Path) -> None:
    lay_table(tmp_path / "x.tsv", pictures(2))
    lay_table(tmp_path / "y.tsv", pictures(3))
    (tmp_path / "x.yaml").write_text("img: x.tsv\nhw: gone.hw.tsv\n")
    config = config_of(tmp_path, PhotoCollection(path="x.yaml"), PhotoCollection(path="y.tsv"))
    with pytest.raises(MissingFileError) as refused:
        plan_of(config)
    findings = dry_run(config, tmp_path / "run")
    assert str(refused.value) in findings.problems
    assert "gone.hw.tsv: no such file (x.yaml: hw)" in str(refused.value)
    assert any("y.tsv: 3 photos" in line for line in findings.notes)


def test_where_no_photo_is_found_the_first_reason_and_the_list_are_told(tmp_path: Path) -> None:
    (tmp_path / "col").mkdir()
    lay_coco(tmp_path / "col" / "instances.json", {"p0": b"", "p1": b""})
    config = config_of(tmp_path, PhotoCollection(path="col/instances.json"))
    with pytest.raises(MissingFileError) as refused:
        read(tmp_path, config)
    listing, aside = tmp_path / "col/instances.json", tmp_path / "step/quarantine.jsonl"
    first, _ = read_quarantine(aside)
    assert "p0" in first.detail
    assert str(refused.value) == (
        f"no photo found in {listing}: {first.detail}; 2 set aside, see {aside}"
    )
    told = f"{listing}: holds no photo (data.images), 2 files set aside; {first.detail}"
    assert told in dry_run(config, tmp_path / "run").problems


def test_photos_to_be_described_may_lie_apart_from_their_list(tmp_path: Path) -> None:
    photos = pictures(2)
    lay_folder(tmp_path / "photos", photos)
    (tmp_path / "lists").mkdir()
    listing = tmp_path / "lists" / "instances.json"
    lay_coco(listing, {"p0": b""})
    data = data_of(str(listing), tmp_path / "photos")
    config = config_of(tmp_path, *data.images)
    found, _ = read(tmp_path, replace(config, data=data))
    assert found == {"p0": photos["p0"]}
    with pytest.raises(MissingFileError, match="none: no such file or folder"):
        data_of(str(listing), tmp_path / "none")


def test_what_is_missing_is_told_once(tmp_path: Path) -> None:
    lay_folder(tmp_path / "all", pictures(1))
    config = config_of(
        tmp_path,
        PhotoCollection(path="all"),
        PhotoCollection(path="none*"),
        PhotoCollection(path="all", list="gone.txt"),
    )
    told = [line for line in dry_run(config, tmp_path / "run").problems if "weights" not in line]
    assert told == [
        f"{tmp_path}/none*: matches nothing (data.images.1.path)",
        f"{tmp_path}/gone.txt: no such file (data.images.2.list)",
    ]


def test_photos_behind_a_url_need_no_place_here(tmp_path: Path) -> None:
    photos = pictures(3)
    store = fsspec.filesystem("memory")
    store.put(str(lay_tar(tmp_path / "x.tar", photos)), "/far/x-1.tar")
    store.put(str(lay_folder(tmp_path / "there", photos)), "/far/there", recursive=True)
    config = config_of(
        tmp_path,
        PhotoCollection(path="memory://far/x-*.tar", namespace="t"),
        PhotoCollection(path="memory://far/there", namespace="f"),
    )
    try:
        found, _ = read(tmp_path, config)
        assert found == {f"{kind}/{name}": photos[name] for name in photos for kind in "tf"}
        before = plan_of(config).steps[0].config
        assert plan_of(config).steps[0].config == before
        store.pipe("/far/there/p0.png", picture(200))
        assert plan_of(config).steps[0].config != before  # another state, another fingerprint
        missing = config_of(tmp_path, PhotoCollection(path="memory://far/none"))
        with pytest.raises(MissingFileError, match="memory://far/none: no such file"):
            plan_of(missing)
    finally:
        store.rm("/far", recursive=True)


def test_the_same_photo_in_two_collections_is_set_aside(tmp_path: Path) -> None:
    lay_folder(tmp_path / "all", pictures(2))
    lay_tar(tmp_path / "x.tar", pictures(3))
    config = config_of(tmp_path, PhotoCollection(path="all"), PhotoCollection(path="x.tar"))
    found, summary = read(tmp_path, config)
    assert list(found) == ["b/p1", "p0", "p2"]
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (5, 3, 2)
    dropped = read_quarantine(tmp_path / "step" / "quarantine.jsonl")
    assert {entry.reason for entry in dropped} == {"duplicate-id"}
    assert "x.tar, member at byte" in dropped[0].detail


def test_what_holds_no_photos_is_found_when_the_run_is_planned(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04....")
    with pytest.raises(StorageError, match=r"x\.zip: packed by zip"):
        plan_of(config_of(tmp_path, PhotoCollection(path="x.zip")))
    with pytest.raises(StorageError, match=r"s3://\w+:\*\*\*@host/x: name it without password"):
        plan_of(config_of(tmp_path, PhotoCollection(path="s3://me:secret@host/x")))
    yaml = tmp_path / "run.yaml"
    yaml.write_text("detector_weights: w\ndata: {images: [{path: x, kind: ta}]}\n")
    with pytest.raises(ConfigError, match=r"images\.0\.kind"):
        read_config(yaml)


def test_a_list_holds_every_kind_of_photo(tmp_path: Path) -> None:
    root, table = tmp_path / "photos", tmp_path / "x.tsv"
    row, member = Stretch(start=5, num_bytes=9, is_row=True), Stretch(start=0, num_bytes=1)
    photos = {
        "0": [
            ImageSource(image_id="a", path=root / "sub" / "a.jpg", size=(3, 4)),
            ImageSource(image_id="长 x", path=root / "长 x.jpg"),
        ],
        "1": [ImageSource(image_id="t", path=table, part=row)],
        "2": [
            ImageSource(image_id="r", path="s3://b/x.tar", part=member),
            ImageSource(image_id="c", path="s3://b/c", part=Cell(group=1, row=2, column="i.b")),
        ],
    }
    assert write_photos(tmp_path, photos, {"0": root, "1": table}) == 5
    listed = read_photos(tmp_path, {"0": root, "1": table})
    flat = [source for sources in photos.values() for source in sources]
    assert list(listed) == flat
    assert listed[1:3] == flat[1:3]
    assert listed[-1] == flat[-1]
    assert read_photo_ids(tmp_path) == {"a", "长 x", "t", "r", "c"}
    with pytest.raises(IndexError):
        listed[5]


@pytest.mark.parametrize(
    "text", ['{"image_id": "a", "folder": "7", "path": "x"}\n', "[]\n", "{}\n", '{"image_id": "a"']
)
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / LIST_NAME).write_text(text)
    with pytest.raises(DamagedFileError, match=f"{LIST_NAME}: .* delete its folder and run again"):
        list(read_photos(tmp_path, {}))


def test_an_empty_list_has_no_photos(tmp_path: Path) -> None:
    (tmp_path / LIST_NAME).touch()
    assert list(read_photos(tmp_path, {})) == []


def test_paths_stay_out_of_the_list(tmp_path: Path) -> None:
    lay_tar(tmp_path / "x.tar", pictures(2))
    read(tmp_path, config_of(tmp_path, PhotoCollection(path="x.tar")))
    text = (tmp_path / "step" / "images" / LIST_NAME).read_text()
    assert str(tmp_path) not in text
    assert set(json.loads(text.splitlines()[0])) == {"image_id", "folder", "start", "num_bytes"}


def test_a_photo_costs_a_few_bytes_however_many_there_are(tmp_path: Path) -> None:
    """While they are listed and while they are cut into slices; its id alone has sixty."""
    num = 10_000
    ids = pa.array([f"some/longer/name/of/a/photo/{number:09d}" for number in range(num)])
    table = pa.table({"image_id": ids, "jpg": pa.array([b"x"] * num)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1000)
    del ids, table
    place = {"0": tmp_path / "x.parquet"}
    config = list_images.Config(collections={"0": list_images.Reading()})
    tracemalloc.start()
    try:
        outputs = list_images.Outputs(images=tmp_path / "images")
        list_images.run(config, list_images.Inputs(photos=place), outputs)
        _, listing = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        slices = Slices(read_photos(tmp_path / "images", place), 256)
        assert sum(map(len, slices)) == slices.num_photos == num
        _, cutting = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    at_once = 1_000_000  # ids or lines that are read together
    assert listing < 100 * num + at_once
    assert cutting < 100 * num + at_once


def test_the_numbers_of_webdataset_stand_for_files(tmp_path: Path) -> None:
    for number in range(8, 12):
        lay_tar(tmp_path / f"t-{number:02d}.tar", {f"n{number}": picture(number)})
    found, _ = read(tmp_path, config_of(tmp_path, PhotoCollection(path="t-{08..10}.tar")))
    assert list(found) == ["n8", "n9", "n10"]
    with pytest.raises(MissingFileError, match=r"t-12\.tar: no such file"):
        plan_of(config_of(tmp_path, PhotoCollection(path="t-{11..12}.tar")))
    with pytest.raises(StorageError, match="more than 100000 files"):
        plan_of(config_of(tmp_path, PhotoCollection(path="t-{0..99999999}.tar")))
