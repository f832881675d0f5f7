"""Regions as tables of the Oscar family: what stands in them, and that they are read back."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.images import image_id_of
from storage.published.tsv import TsvReader
from storage.published.vinvl_import import PublishedTables
from storage.published.vinvl_predictions import (
    label_text,
    parse_objects,
    parse_size,
    prediction_text,
    published_objects,
    sized_text,
)
from storage.published.vinvl_regions import FeatureTable, LabelTable
from storage.published.vinvl_tables import write_tables
from storage.records import (
    HEIGHT_FIRST,
    WIDTH_FIRST,
    ImageLabels,
    ImageRegions,
    Quarantined,
)
from tests.builders_storage import make_regions, same
from tests.builders_tables import LABEL_MAP, inside, some_regions, table_row
from tests.strategies import image_regions

DOG = parse_objects('[{"class": "dog", "conf": 0.5, "rect": [1, 2, 3, 4.25]}]', "here")


def write(folder: Path, records: list[ImageRegions], layout: str = "vinvl", order=WIDTH_FIRST):
    return write_tables(folder, [table_row(each, order) for each in records], layout)


def read(folder: Path, *, split: bool = True, namespace: str = "coco") -> list:
    return read_all(PublishedTables(folder, LABEL_MAP), namespace, split=split)


def read_all(tables: PublishedTables, namespace: str, *, split: bool) -> list:
    return [
        tables.read(key, image_id_of(namespace, key), keeps_numbers=not split)
        for key in tables.keys
    ]


def test_the_text_of_each_layout() -> None:
    dog = '"rect": [1.0, 2.0, 3.0, 4.25], "bbox_id": 0, "class": "dog", "conf": 0.5'
    assert prediction_text(DOG) == '{"objects": [{' + dog + '}], "relations": null}'
    sized = replace(DOG, size=(48, 64))
    assert sized_text(sized) == '{"image_h": 48, "image_w": 64, "objects": [{' + dog + "}]}"
    assert label_text(DOG) == '[{"class": "dog", "conf": 0.5, "rect": [1.0, 2.0, 3.0, 4.25]}]'
    with pytest.raises(ValueError, match="needs that size"):
        sized_text(DOG)


def test_text_is_ascii_and_spare_attribute_slots_are_named() -> None:
    regions = inside(replace(some_regions(1)[0], class_names=("帽子",), attribute_names=(("大",),)))
    text = prediction_text(published_objects(regions))
    assert text.isascii()
    (told,) = json.loads(text)["objects"]
    assert told["class"] == "帽子"
    assert told["attributes"] == ["大", "__no_attribute__"]
    assert told["attr_scores"] == [float(regions.attribute_scores[0, 0]), 0.0]


def test_the_tables_are_what_the_published_readers_expect(tmp_path: Path) -> None:
    records = some_regions(3)
    write(tmp_path, records, order=HEIGHT_FIRST)
    assert json.loads((tmp_path / "imageid2idx.json").read_text()) == {"1": 0, "2": 1, "3": 2}
    features, labels = FeatureTable(tmp_path), LabelTable(tmp_path)
    for number, regions in enumerate(records):
        key, num, coded = TsvReader(tmp_path / "features.tsv")[number]
        values = np.frombuffer(base64.b64decode(coded), np.float32).reshape(int(num), -1)
        assert np.array_equal(values, table_row(regions, HEIGHT_FIRST).inputs)
        assert np.array_equal(features.read(number, key), values)
        said = labels.read(number, key)
        assert (said.class_names, said.height, said.width) == (regions.class_names, 48, 64)
    starts = (tmp_path / "features.lineidx").read_text().split()
    content = (tmp_path / "features.tsv").read_bytes()
    assert [content[int(start) :].split(b"\t")[0] for start in starts] == [b"1", b"2", b"3"]


def test_captioning_has_its_features_in_an_object(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    write(tmp_path, [regions], "captioning")
    content = json.loads(TsvReader(tmp_path / "feature.tsv")[0][1])
    assert list(content) == ["num_boxes", "features"]
    values = np.frombuffer(base64.b64decode(content["features"]), np.float32)
    assert np.array_equal(values.reshape(content["num_boxes"], -1), table_row(regions).inputs)


@pytest.mark.parametrize("layout", ["vinvl", "captioning", "predictions"])
@pytest.mark.parametrize("order", [WIDTH_FIRST, HEIGHT_FIRST])
def test_what_is_written_is_read_back(tmp_path: Path, layout: str, order: str) -> None:
    records = some_regions(4)
    write(tmp_path, records, layout, order)
    found = read(tmp_path, split=layout != "predictions")
    assert len(found) == 4
    for back, regions in zip(found, records, strict=True):
        wanted = replace(regions, features=regions.features.astype(np.float32))
        if layout == "captioning":  # its words have no attributes
            none = np.zeros((len(wanted.class_ids), 0), np.float32)
            wanted = replace(
                wanted,
                attribute_ids=none.astype(np.int16),
                attribute_scores=none,
                attribute_names=((),) * len(none),
            )
        assert same(back, wanted)
    orders = PublishedTables(tmp_path).orders
    assert orders == (frozenset() if layout == "predictions" else {order})


@given(regions=image_regions("coco/1", width=7, dtype="float32"))
def test_any_record_goes_through_the_detectors_row(regions: ImageRegions) -> None:
    objects = published_objects(regions, features=regions.features)
    text = prediction_text(objects)
    back = parse_objects(text, "here")
    assert back.class_names == tuple(regions.class_names)
    assert prediction_text(back) == text
    if len(regions.class_ids):
        assert np.array_equal(back.boxes, regions.boxes)
        assert np.array_equal(back.features, regions.features)
        assert np.array_equal(back.confidences, regions.confidences)


def test_numbers_stay_bit_for_bit_or_go(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    write(tmp_path, [regions])
    (whole,) = read(tmp_path, split=False)
    assert np.array_equal(whole.features, table_row(regions).inputs)
    assert PublishedTables(tmp_path).feature_width == 8 + 6


def test_a_thin_box_that_was_refined_may_end_a_pixel_before_it_begins(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    thin = replace(regions, boxes=np.array([[20.0, 5.0, 19.5, 30.0]], np.float32))
    write(tmp_path, [thin])
    (back,) = read(tmp_path)
    assert np.array_equal(back.boxes, thin.boxes)


def test_a_slot_of_score_0_is_empty_whatever_it_names(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    write(tmp_path, [regions])
    said = {**COD, "attributes": ["red", "striped"], "attr_scores": [0.5, 0.0]}
    (tmp_path / "predictions.tsv").write_text("1\t" + row_of([said]) + "\n")
    (back,) = read(tmp_path, split=False)
    assert back.attribute_names == (("red",),)
    assert back.attribute_ids.tolist() == [[1, 0]]
    assert back.attribute_scores.tolist() == [[0.5, 0.0]]


def test_names_without_a_label_map_are_numbered_as_they_come(tmp_path: Path) -> None:
    records = some_regions(4)
    write(tmp_path, records)
    tables = PublishedTables(tmp_path)
    found = read_all(tables, "", split=False)
    names = dict.fromkeys(name for each in records for name in each.class_names)
    assert tables.label_map.class_names[1:] == tuple(names)
    for each in found:
        assert tuple(tables.label_map.class_names[i] for i in each.class_ids) == each.class_names
    assert [each.image_id for each in found] == ["1", "2", "3", "4"]
    remembered = PublishedTables(tmp_path)
    for each in found:
        remembered.remember(
            ImageLabels(
                image_id=each.image_id,
                class_names=each.class_names,
                attribute_names=each.attribute_names,
            )
        )
    assert remembered.label_map == tables.label_map


def row_of(objects: list[dict], **more: object) -> str:
    return json.dumps({"image_h": 48, "image_w": 64, "objects": objects, **more})


COD = {"class": "dog", "conf": 0.5, "rect": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("field", "text", "reason", "said"),
    [
        ("features", "AAAA", "damaged-features", "3 bytes are not float32 features of 2 boxes"),
        ("features", "A?==", "damaged-features", "not base64"),
        ("nan", "", "damaged-features", "NaN or infinity"),
        ("width", "", "other-width", "features are 4 wide, the first ones 14"),
        ("objects", row_of([COD]), "counts-disagree", "1 objects, but features of 2"),
        ("objects", row_of([COD] * 2)[:-9], "damaged-objects", "not JSON"),
        ("objects", row_of([COD, {"class": "dog"}]), "damaged-objects", "some objects have 'conf'"),
        ("name", "unicorn", "unknown-name", "the label map has no class 'unicorn'"),
        ("objects", row_of([COD, {**COD, "conf": None}]), "damaged-objects", "'conf' must be"),
        ("objects", row_of([COD, {**COD, "rect": [5, 2, 3, 4]}]), "box-outside", "box 1 [5, 2, 3"),
        ("objects", row_of([COD, {**COD, "rect": [0, 0, 66, 4]}]), "box-outside", "of 64 x 48"),
        ("objects", row_of([COD, {**COD, "rect": [-2, 0, 6, 4]}]), "box-outside", "box 1 [-2, 0"),
        ("objects", row_of([COD] * 2), "numbers-disagree", "last six numbers are not of its boxes"),
        ("objects", row_of([COD] * 2, image_h="x"), "damaged-objects", "'image_h' must be a side"),
    ],
)
def test_a_damaged_image_is_set_aside_alone(
    tmp_path: Path, field: str, text: str, reason: str, said: str
) -> None:
    records = some_regions(4)
    write(tmp_path, records)
    table = tmp_path / ("predictions.tsv" if field in ("objects", "name") else "features.tsv")
    rows = [list(row) for row in TsvReader(table)]
    if field == "nan":
        text = base64.b64encode(np.full((2, 14), np.nan, np.float32).tobytes()).decode()
    if field == "width":
        text = base64.b64encode(np.zeros((2, 4), np.float32).tobytes()).decode()
    if field == "name":
        content = json.loads(rows[1][-1])
        content["objects"][1]["class"] = text
        text = json.dumps(content)
    rows[1][-1] = text
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    table.with_suffix(".lineidx").unlink()
    first, dropped, *others = read(tmp_path)
    assert isinstance(dropped, Quarantined)
    assert (dropped.image_id, dropped.reason) == ("coco/2", reason)
    assert said in dropped.detail
    assert "2" in dropped.detail
    assert all(isinstance(each, ImageRegions) for each in (first, *others))


def test_an_image_without_regions_is_an_image(tmp_path: Path) -> None:
    records = [*some_regions(1), inside(make_regions("coco/none", num=0, slots=0))]
    write(tmp_path, records)
    _, back = read(tmp_path)
    assert same(back, replace(records[1], features=np.zeros((0, 8), np.float32)))


def test_without_corners_a_box_comes_from_the_six_numbers(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    write(tmp_path, [regions])
    (tmp_path / "predictions.tsv").write_text("1\t" + row_of([{"class": "dog"}]) + "\n")
    (back,) = read(tmp_path, split=False)
    assert np.allclose(back.boxes, regions.boxes, atol=1e-3)
    assert back.confidences.tolist() == [1.0]


def test_images_of_one_table_alone_are_counted_and_set_aside(tmp_path: Path) -> None:
    records = some_regions(3)
    write(tmp_path, records)
    write(tmp_path / "more", some_regions(4))
    for name in ("features.tsv", "features.lineidx", "imageid2idx.json"):
        (tmp_path / "more" / name).replace(tmp_path / name)
    objects = tmp_path / "predictions.tsv"
    lines = objects.read_text().splitlines(keepends=True)
    objects.write_text("".join([*lines, lines[0].replace("1\t", "77\t", 1)]))
    objects.with_suffix(".lineidx").unlink()
    found = read(tmp_path)
    assert len(found) == len(PublishedTables(tmp_path)) == 5
    reasons = {each.image_id: each.reason for each in found if isinstance(each, Quarantined)}
    assert reasons == {"coco/77": "no-features", "coco/4": "no-objects"}


def test_tables_that_cannot_be_read_as_a_whole_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"needs one of predictions\.tsv, predictions_gt"):
        PublishedTables(tmp_path)
    (tmp_path / "label.tsv").write_text(
        '1\t[{"class": "dog", "conf": 0.5, "rect": [1, 2, 3, 4]}]\n'
    )
    with pytest.raises(DamagedFileError, match=r"no region in the first images .*without feature"):
        PublishedTables(tmp_path)
    for split in ("train", "val"):
        (tmp_path / f"{split}.hw.tsv").write_text("1\t48 64\n")
    with pytest.raises(DamagedFileError, match=r"train\.hw\.tsv, val\.hw\.tsv; which"):
        PublishedTables(tmp_path)


@pytest.mark.parametrize(
    "text", ["48 64", '[{"height": 48, "width": 64}]', '{"height": 48, "width": 64}']
)
def test_a_size_has_three_forms(text: str) -> None:
    assert parse_size(text, "here") == (48, 64)


@pytest.mark.parametrize("text", ["48", "[]", "0 64", "48 99999999999999999999", "null", '"4"'])
def test_a_size_that_no_photo_has_is_refused(text: str) -> None:
    with pytest.raises(DamagedFileError, match="here"):
        parse_size(text, "here")


def test_a_key_that_would_not_come_back_leaves_no_table(tmp_path: Path) -> None:
    (regions,) = some_regions(1)
    for key, said in (("a ", "outer white space"), ("a\tb", "without tabs"), ("", "outer white")):
        with pytest.raises(RecordError, match=said):
            write_tables(tmp_path, [replace(table_row(regions), key=key)], "vinvl")
    with pytest.raises(RecordError, match="two images have the key '1'"):
        write_tables(tmp_path, [table_row(regions)] * 2, "vinvl")
    assert list(tmp_path.iterdir()) == []
