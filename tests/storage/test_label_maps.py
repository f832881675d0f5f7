import json
from pathlib import Path

import pytest

from storage.errors import DamagedFileError, MissingFileError, RecordError
from storage.published.label_maps import LabelMap, label_map_of, read_label_map, write_label_map
from tests.locations import data_dir

SMALL = {
    "label_to_idx": {"dog": 1, "cat": 2},
    "idx_to_label": {"1": "dog", "2": "cat"},
    "attribute_to_idx": {"red": 1},
    "idx_to_attribute": {"1": "red"},
}


def refused(tmp_path: Path, content: object) -> str:
    path = tmp_path / "labelmap.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError) as caught:
        read_label_map(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_published_map(tmp_path: Path) -> None:
    path = data_dir("labelmaps", "VG-SGG-dicts-vgoi6-clipped.json")
    label_map = read_label_map(path)
    assert (len(label_map.class_names), len(label_map.attribute_names)) == (1595, 525)
    assert len(label_map.predicate_names) == 51
    assert label_map.class_names[:2] == ("__background__", "ad")
    assert label_map.attribute_names[0] == "__no_attribute__"
    assert label_map.class_counts["window"] == 53848
    published = json.loads(path.read_text())
    assert label_map.class_ids == published["label_to_idx"]
    assert label_map.attribute_ids == published["attribute_to_idx"]
    write_label_map(tmp_path / "copy.json", label_map)
    assert json.loads((tmp_path / "copy.json").read_text()) == published


def test_names_and_indices_find_each_other() -> None:
    label_map = label_map_of(["dog", "cat"], ["red"])
    assert label_map.class_names == ("__background__", "dog", "cat")
    assert (label_map.class_id("cat"), label_map.attribute_id("red")) == (2, 1)
    assert label_map.class_id("__background__") is None
    assert label_map.class_id("horse") is None


def test_names_occur_once_and_zero_is_kept_free() -> None:
    with pytest.raises(RecordError, match="'dog' occurs twice"):
        label_map_of(["dog", "dog"])
    with pytest.raises(RecordError, match="class 0 must be '__background__'"):
        LabelMap(class_names=("dog",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_to_idx": {"dog": 1, "cat": 3}}, "label_to_idx: no name for index 2"),
        ({"label_to_idx": {"dog": 1, "cat": 1}}, "index 1 is shared by 'dog', 'cat'"),
        ({"label_to_idx": {"dog": "1"}}, "must map names to whole numbers"),
        ({"label_to_idx": ["dog"]}, "must map names to whole numbers"),
        ({"idx_to_label": {"1": "cat", "2": "dog"}}, "'1' is 'cat', label_to_idx says otherwise"),
        ({"idx_to_label": {"1": "dog"}}, "'cat' missing, though label_to_idx has it"),
        ({"idx_to_attribute": []}, "idx_to_attribute: must be an object"),
        ({"attribute_to_idx": {"red": 0}}, "'red' has index 0, indices start at 1"),
        ({"object_count": {"dog": 1.5}}, "object_count: must map"),
        ({"colours": {}}, "unknown key 'colours'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    assert message in refused(tmp_path, {**SMALL, **change})


def test_a_map_needs_classes(tmp_path: Path) -> None:
    assert "key 'label_to_idx' missing" in refused(tmp_path, {"attribute_to_idx": {}})
    assert "not a label map" in refused(tmp_path, [])


def test_a_map_without_attributes_will_do(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.json"
    path.write_text(json.dumps({"label_to_idx": {"dog": 1}}))
    assert read_label_map(path) == label_map_of(["dog"])


def test_a_key_twice_and_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "labelmap.json"
    path.write_text('{"label_to_idx": {"dog": 1, "dog": 2}}')
    with pytest.raises(DamagedFileError, match="key 'dog' occurs twice"):
        read_label_map(path)
    with pytest.raises(MissingFileError):
        read_label_map(tmp_path / "none.json")


def test_every_problem_of_the_damaged_map_is_named() -> None:
    with pytest.raises(DamagedFileError) as caught:
        read_label_map(data_dir("hostile", "annotations", "labelmap_gap.json"))
    for part in ("index 2 is shared by 'adult', 'air'", "index 3, 4", "'above' has index 0"):
        assert part in str(caught.value)
