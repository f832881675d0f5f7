"""A run that starts from region shards: how they are named, opened, taken, and refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.commands.corpus import corpus_table
from flows.commands.dry_run import dry_run
from flows.commands.trained import detector_of
from flows.config import RunConfig, as_yaml, read_config
from flows.errors import ConfigError, MissingModelError
from flows.photos import read_photo_ids
from flows.pipeline import plan_of
from flows.stages import take_regions
from flows.stored_regions import open_stored
from storage.errors import DamagedFileError, MissingFileError, StorageError
from storage.quarantine import QUARANTINE_NAME, read_quarantine, write_quarantine
from storage.records import HEIGHT_FIRST, INCLUDED, Quarantined
from storage.region_shards import RegionReader
from tests.builders_storage import make_regions, same, write_regions

RECORDS = [make_regions(f"coco/{number:012d}", seed=number) for number in range(5)]
ASIDE = Quarantined(image_id="coco/9", reason="damaged-features", detail="cut")
CAPTIONS = {
    "images": [{"id": number, "file_name": f"{number:012d}.jpg"} for number in (1, 2, 77)],
    "annotations": [
        {"id": 10 + number, "image_id": number, "caption": f"photo {number}"}
        for number in (1, 2, 77)
    ],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two folders of shards, a list of what was set aside of one, captions of three photos."""
    write_regions(tmp_path / "first" / "regions", RECORDS[:3], rows_per_shard=2)
    write_quarantine(tmp_path / "first" / QUARANTINE_NAME, [ASIDE])
    write_regions(tmp_path / "second", RECORDS[3:])
    (tmp_path / "captions.json").write_text(json.dumps(CAPTIONS))
    return tmp_path


def configured(data: Path, more: str = "") -> RunConfig:
    path = data / "run.yaml"
    path.write_text(
        f"data:\n  root: {data}\n  regions: [first, second]\n"
        "  images: [{path: nowhere, namespace: coco}]\n"
        "  sources: [{reader: coco_captions, path: captions.json, split: train}]\n"
        "detector_weights: nowhere\n"
        "encoder: {hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 32}\n"
        "pretrain: {settings: {languages: [en]}, training: {steps: 2}}\n" + more
    )
    return read_config(path)


def taken(data: Path) -> take_regions.Summary:
    return take_regions.run(
        take_regions.Config(),
        take_regions.Inputs(stored={"0": data / "first", "1": data / "second"}),
        take_regions.Outputs(regions=data / "out" / "regions", images=data / "out" / "images"),
    )


def test_shards_are_taken_as_they_are_and_what_was_set_aside_stays_known(data: Path) -> None:
    summary = taken(data)
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (6, 5, 1)
    reader = RegionReader(data / "out" / "regions")
    assert all(map(same, reader.in_order(), RECORDS))
    assert read_photo_ids(data / "out" / "images") == {each.image_id for each in RECORDS}
    assert read_quarantine(data / "out" / QUARANTINE_NAME) == [ASIDE]
    shared = data / "first" / "regions" / "regions-00001.parquet"
    assert shared.samefile(data / "out" / "regions" / "regions-00001.parquet")
    before = shared.read_bytes()
    assert taken(data) == summary  # again, over what an interrupted attempt left
    assert shared.read_bytes() == before


def test_the_plan_has_neither_photos_nor_a_detector(data: Path) -> None:
    config = configured(data)
    plan = plan_of(config)
    assert [step.name for step in plan.steps] == [
        "detect",
        "collect_annotations",
        "translate_tags",
        "pretrain",
        "report",
    ]
    assert plan.step("detect").stage == "take_regions"
    assert plan.step("collect_annotations").inputs["images"] == "detect.images"
    assert "photos" not in str(plan.step("report").inputs)
    one = read_config(data / "run.yaml", [f"data.regions=[{data}/first, second]"])
    assert one.data.regions == (f"{data}/first", "second")
    kept = data / "kept.yaml"
    kept.write_text(as_yaml(config))
    assert read_config(kept) == replace(config, data=read_config(kept).data)


def test_a_dry_run_counts_texts_of_the_stored_images(data: Path) -> None:
    found = dry_run(configured(data), data / "run")
    assert found.problems == ()
    assert f"{data}/first: regions of 3 photos, 1 set aside" in found.notes
    assert any("2 records join; set aside: 1 no-such-image" in note for note in found.notes)
    (seen,) = [each for each in found.estimates if each.step == "detect"]
    assert (seen.amount, seen.seconds) == ("5 photos", 0.0)


def test_the_corpus_table_names_annotated_images_without_regions(data: Path) -> None:
    configured(data)
    (failure,) = corpus_table(str(data / "run.yaml")).failures
    assert (failure.reason, failure.first_ids) == ("no-such-image", ("coco/000000000077",))


def test_a_damaged_shard_is_named_before_anything_is_learned(data: Path) -> None:
    shard = data / "second" / "regions-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"{shard}: bytes changed since it was written"):
        taken(data)


def test_folders_that_do_not_go_together_are_refused(data: Path) -> None:
    write_regions(data / "third", RECORDS[3:], geometry=INCLUDED)
    with pytest.raises(
        StorageError, match=r"third: geometry 'included' and 'width_first' of .*first"
    ):
        open_stored([data / "first", data / "third"])
    with pytest.raises(StorageError, match="image 'coco/000000000003' is in another folder"):
        open_stored([data / "second", data / "second"])
    with pytest.raises(MissingFileError, match=r"no manifest.json of region shards in it or in"):
        open_stored([data])


def test_an_order_that_stored_regions_do_not_have_is_refused(data: Path) -> None:
    turned = configured(data, "detect: {geometry: height_first}\n")
    said = (
        f"{data}/first: regions that are there stay width_first, "
        "detect.geometry=height_first cannot turn them; leave it out"
    )
    with pytest.raises(StorageError) as refused:
        plan_of(turned)
    assert str(refused.value) == said
    found = dry_run(turned, data / "run")
    assert found.problems == (said,)
    assert any("2 records join" in line for line in found.notes)
    write_regions(data / "high", RECORDS, geometry=HEIGHT_FIRST)
    high = replace(turned, data=replace(turned.data, regions=("high",)))
    assert plan_of(high).step("detect").stage == "take_regions"


def test_what_follows_from_folders_that_do_not_go_together_is_not_told(data: Path) -> None:
    write_regions(data / "third", RECORDS[3:], geometry=INCLUDED)
    config = configured(data)
    odd = replace(config, data=replace(config.data, regions=("first", "third")))
    found = dry_run(odd, data / "run")
    (problem,) = found.problems
    assert "regions of one run must be alike" in problem
    assert not [line for line in found.notes if "join" in line]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("render_scenes: {num_train: 2}\n", "render_scenes draws photos of its own"),
        ("score_detector: {visual_genome: true}\n", "looks at photos; with data.regions"),
    ],
)
def test_what_needs_photos_is_refused(data: Path, more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configured(data, more)


def test_folders_that_are_not_there_are_told(data: Path) -> None:
    config = configured(data)
    gone = replace(config, data=replace(config.data, regions=("first", "gone")))
    assert f"{data}/gone: no such folder (data.regions.1)" in dry_run(gone, data / "run").problems
    with pytest.raises(MissingFileError, match=r"gone: no such file or folder \(data.regions.1\)"):
        plan_of(gone)


def test_a_run_without_a_detector_says_so(data: Path) -> None:
    run = data / "run"
    run.mkdir()
    (run / "config.yaml").write_text(as_yaml(configured(data)))
    with pytest.raises(MissingModelError, match=r"learned from regions \(data.regions\)"):
        detector_of(run)
