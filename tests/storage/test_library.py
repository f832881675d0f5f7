from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.annotation_shards import read_annotations, write_annotations
from storage.errors import DamagedFileError, RecordError
from storage.library import open_library
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    QuestionAnnotation,
)
from storage.tag_shards import read_tags, write_tags
from tests.builders_storage import make_tags, many_regions, same, write_regions


def make_annotations() -> Annotations:
    def caption(number: int, split: str, language: str) -> CaptionAnnotation:
        return CaptionAnnotation(
            image_id=f"photos/{number}",
            caption_id=f"{number}{language}",
            text="一只狗。" if language == "zh" else "A dog .",
            language=language,
            split=split,
            source="s",
        )

    question = QuestionAnnotation(
        image_id="photos/2",
        question_id="q1",
        question="What?",
        answers=("dog", "dog", "cat"),
        language="en",
        split="test",
        source="s",
        answer_type="other",
    )
    pair = ImagePairAnnotation(
        pair_id="p",
        left_image_id="photos/1",
        right_image_id="photos/3",
        sentence="Two dogs.",
        is_true=True,
        language="en",
        split="train",
        source="n",
    )
    objects = ImageObjects(
        image_id="photos/0",
        height=4,
        width=5,
        boxes=np.array([[0, 0, 1.5, 2], [1, 1, 4, 3]], dtype=np.float32),
        class_names=("dog", "tree"),
        attributes=(("red", "big"), ()),
        is_crowd=np.array([False, True]),
        split="train",
        source="s",
    )
    empty = replace(
        objects,
        image_id="photos/1",
        boxes=np.zeros((0, 4), np.float32),
        class_names=(),
        attributes=(),
        is_crowd=np.zeros(0, np.bool_),
    )
    return Annotations(
        captions=(
            caption(0, "train", "zh"),
            caption(0, "train", "en"),
            caption(1, "test", "zh"),
            caption(99, "train", "zh"),
        ),
        questions=(question, replace(question, question_id="q2", answers=())),
        pairs=(pair, replace(pair, pair_id="p2", right_image_id="photos/98")),
        objects=(objects, empty),
    )


def make_library(folder: Path, num_images: int = 5):
    regions = many_regions(num_images)
    write_regions(folder / "regions", regions)
    write_tags(folder / "tags", map(make_tags, regions))
    write_annotations(folder / "annotations", make_annotations())
    return open_library(folder / "regions", folder / "tags", folder / "annotations")


def test_annotations_come_back_as_they_were(tmp_path: Path) -> None:
    wanted = make_annotations()
    write_annotations(tmp_path, wanted)
    found = read_annotations(tmp_path)
    for name in ("captions", "questions", "pairs"):
        assert getattr(found, name) == getattr(wanted, name)
    assert all(map(same, found.objects, wanted.objects))
    assert len(found.objects) == 2


def test_writing_fewer_annotations_leaves_no_old_shard(tmp_path: Path) -> None:
    write_annotations(tmp_path, make_annotations())
    write_annotations(tmp_path, Annotations())
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert read_annotations(tmp_path) == Annotations()


def test_tags_come_back_in_order(tmp_path: Path) -> None:
    tags = [make_tags(regions) for regions in many_regions(7)]
    write_tags(tmp_path, tags)
    assert list(read_tags(tmp_path).values()) == tags


def test_tags_of_one_image_twice_are_refused(tmp_path: Path) -> None:
    tags = make_tags(many_regions(1)[0])
    write_tags(tmp_path, [tags, tags])
    with pytest.raises(DamagedFileError, match="'photos/0' twice"):
        read_tags(tmp_path)


def test_a_library_selects_by_split_language_and_regions(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    assert [c.image_id for c in library.captions("train", "zh")] == ["photos/0"]
    assert [q.question_id for q in library.questions("test", "en")] == ["q1", "q2"]
    assert library.questions("test", "zh") == []
    assert [pair.pair_id for pair in library.pairs("train")] == ["p"]
    assert library.image_ids("train") == ["photos/0", "photos/1", "photos/3"]
    assert library.image_ids("test") == ["photos/1", "photos/2"]


def test_swapping_changes_regions_and_on_request_tags(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    both = library.with_swapped({"photos/1": "photos/3"}, keep_tags=False)
    features = library.with_swapped({"photos/1": "photos/3"}, keep_tags=True)
    assert both.regions_of("photos/1").image_id == "photos/3"
    assert both.tags_of("photos/1").image_id == "photos/3"
    assert both.regions_of("photos/0").image_id == "photos/0"
    assert features.regions_of("photos/1").image_id == "photos/3"
    assert features.tags_of("photos/1").image_id == "photos/1"
    assert library.regions_of("photos/1").image_id == "photos/1"


def test_an_image_without_regions_is_named(tmp_path: Path) -> None:
    library = make_library(tmp_path)
    with pytest.raises(RecordError, match="'photos/77': no regions"):
        library.regions_of("photos/77")
    with pytest.raises(RecordError, match="'photos/77': stands in"):
        library.with_swapped({"photos/1": "photos/77"}, keep_tags=True)


def test_tags_of_other_regions_are_refused(tmp_path: Path) -> None:
    make_library(tmp_path)
    write_tags(tmp_path / "tags", [])
    with pytest.raises(DamagedFileError, match="no tags for image 'photos/0'"):
        open_library(tmp_path / "regions", tmp_path / "tags", tmp_path / "annotations")
