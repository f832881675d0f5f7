"""Numbers that no photo has are one clear reason, never an overflow."""

import json
from pathlib import Path

import pytest

from storage.annotation_shards import write_annotations
from storage.annotations import coco_instances, flickr_tokens, nlvr2, visual_genome, vqa_v2
from storage.errors import AnnotationError

LONG = "9" * 5000


def instances(
    path: Path, *, width: str = "20", box: str = "[1, 1, 2, 2]", number: str = "1"
) -> Path:
    path.write_text(
        f'{{"images": [{{"id": 1, "file_name": "1.jpg", "height": 10, "width": {width}}}],'
        ' "categories": [{"id": 1, "name": "car"}],'
        f' "annotations": [{{"id": 1, "image_id": {number}, "category_id": 1, "bbox": {box}}}]}}'
    )
    return path


@pytest.mark.parametrize("width", ["0", "1000001", "1" + "0" * 400, f'"{LONG}"'])
def test_a_size_no_photo_has_is_set_aside(tmp_path: Path, width: str) -> None:
    found = coco_instances.read(instances(tmp_path / "i.json", width=width))
    assert found.objects == ()
    assert found.quarantined[0].reason in {"bad-size", "bad-row"}
    assert len(found.quarantined[0].detail) < 200
    write_annotations(tmp_path / "shards", found)


@pytest.mark.parametrize("side", ["1" + "0" * 400, "1e400", "NaN", "-1e300"])
def test_a_box_no_photo_has_is_set_aside(tmp_path: Path, side: str) -> None:
    found = coco_instances.read(instances(tmp_path / "i.json", box=f"[1, 1, 2, {side}]"))
    assert [dropped.reason for dropped in found.quarantined] == ["bad-box"]
    assert len(found.objects[0].boxes) == 0


def test_an_image_number_of_thousands_of_digits_is_set_aside(tmp_path: Path) -> None:
    found = coco_instances.read(instances(tmp_path / "i.json", number=f'"{LONG}"'))
    assert [dropped.reason for dropped in found.quarantined] == ["bad-row"]


def test_a_file_with_such_a_number_outside_a_text_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"i\.json: holds a number of thousands of digits"):
        coco_instances.read(instances(tmp_path / "i.json", number=LONG))
    with pytest.raises(AnnotationError, match="thousands of digits"):
        vqa_v2.read(instances(tmp_path / "q.json", number=LONG))


def test_a_line_with_such_a_number_is_set_aside(tmp_path: Path) -> None:
    good = {"identifier": "dev-1-0-0", "sentence": "Two dogs.", "label": "True"}
    path = tmp_path / "dev.json"
    path.write_text(f'{json.dumps(good)}\n{{"identifier": {LONG}}}\n')
    found = nlvr2.read(path)
    assert len(found.pairs) == 1
    assert [dropped.reason for dropped in found.quarantined] == ["not-json"]


def test_a_caption_number_of_thousands_of_digits_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text(f"1.jpg#{LONG}\tA dog.\n1.jpg#0\tA cat.\n")
    found = flickr_tokens.read(path)
    assert [caption.text for caption in found.captions] == ["A cat."]
    assert [dropped.reason for dropped in found.quarantined] == ["bad-row"]


def test_visual_genome_sizes_are_bounded_too(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('[{"image_id": 1, "objects": []}]')
    (tmp_path / "d.json").write_text('[{"image_id": 1, "width": 2000000, "height": 9}]')
    found = visual_genome.read(tmp_path / "o.json", image_data=tmp_path / "d.json")
    assert [dropped.reason for dropped in found.quarantined] == ["bad-size", "unknown-image"]
