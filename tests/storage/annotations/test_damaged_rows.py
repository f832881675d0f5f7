"""Each reader keeps the good rows of a file and says what was wrong with the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.annotations import (
    aic_icc,
    coco_captions,
    coco_cn,
    coco_instances,
    flickr8k_cn,
    flickr30k_cn,
    flickr_karpathy,
    flickr_tokens,
    gqa,
    nlvr2,
    translated_texts,
    vg_qa,
    vinvl_texts,
    visual_genome,
    vqa_v2,
)
from storage.errors import AnnotationError, MissingFileError
from storage.records import Annotations

IMAGES = [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 10}]


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def reasons(found: Annotations) -> list[str]:
    return [dropped.reason for dropped in found.quarantined]


def test_coco_captions(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "image_id": 1, "caption": " two  words\n"},
        {"id": 2, "image_id": 1, "caption": None},
        {"id": 3, "image_id": 1, "caption": 7},
        {"id": 4, "image_id": "one", "caption": "x"},
        {"image_id": 1, "caption": "x"},
        {"id": 6, "image_id": 2, "caption": "x"},
        {"id": 1, "image_id": 1, "caption": "x"},
        {"id": 8, "image_id": 1, "caption": "\ud800"},
        "row",
    ]
    found = coco_captions.read(write(tmp_path / "c.json", {"images": IMAGES, "annotations": rows}))
    assert [(caption.image_id, caption.text) for caption in found.captions] == [
        ("coco/1", "two words")
    ]
    assert reasons(found) == [
        "bad-row",
        "not-text",
        "bad-row",
        "bad-row",
        "unknown-image",
        "duplicate-id",
        "bad-unicode",
        "bad-row",
    ]
    assert found.quarantined[0].detail == "c.json: annotation 2: 'caption' is missing"
    assert found.quarantined[0].image_id == "coco/1"


def test_coco_names_of_2014_and_2017_are_one_id(tmp_path: Path) -> None:
    images = [
        {"id": 25, "file_name": "COCO_train2014_000000000025.jpg"},
        {"id": 26, "file_name": "000000000026.jpg"},
        {"id": 27, "file_name": "sub/a.b.png"},
    ]
    rows = [{"id": n, "image_id": n, "caption": "x"} for n in (25, 26, 27)]
    found = coco_captions.read(write(tmp_path / "c.json", {"images": images, "annotations": rows}))
    assert [caption.image_id for caption in found.captions] == [
        "coco/000000000025",
        "coco/000000000026",
        "coco/sub/a.b",
    ]


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([0, 0, 20, 10], [0, 0, 19, 9]),
        ([-1, -1, 22, 12], [0, 0, 19, 9]),
        ([2.5, 1.5, 0.5, 0.5], [2.5, 1.5, 2.5, 1.5]),
        ([19, 9, 5, 5], [19, 9, 19, 9]),
        ([20, 0, 5, 5], None),
        ([-5, 0, 5, 5], None),
        ([0, 0, float("inf"), 5], None),
        ([0, 0, "5", 5], None),
        ([0, 0, True, 5], None),
        ("box", None),
    ],
)
def test_a_box_is_cut_to_its_photo_or_dropped(
    tmp_path: Path, box: Any, kept: list[float] | None
) -> None:
    content = {
        "images": IMAGES,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": box}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    found = coco_instances.read(write(tmp_path / "i.json", content))
    (image,) = found.objects
    assert image.boxes.tolist() == ([] if kept is None else [kept])
    assert image.class_names == (() if kept is None else ("dog",))
    if kept is None:
        assert reasons(found) == ["bad-box"]


def test_a_box_far_over_the_border_is_reported(tmp_path: Path) -> None:
    content = {
        "images": IMAGES,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 5, 99, 2]}],
        "categories": [{"id": 3, "name": "dog"}],
    }
    found = coco_instances.read(write(tmp_path / "i.json", content))
    assert found.objects[0].boxes.tolist() == [[5, 5, 19, 6]]
    assert reasons(found) == ["box-clipped"]


def test_visual_genome(tmp_path: Path) -> None:
    row = {"x": 0, "y": 0, "w": 5, "h": 5}
    objects = [
        {
            "image_id": 1,
            "objects": [
                {**row, "object_id": 1, "names": [" Dog "], "merged_object_ids": [8, "x"]},
                {**row, "object_id": 1, "names": ["dog"]},
                {**row, "object_id": 2, "names": []},
                {**row, "object_id": 3, "names": ["cat"], "h": None},
            ],
        },
        {"image_id": 2, "objects": []},
    ]
    attributes = [
        {
            "image_id": 1,
            "attributes": [
                {"object_id": 1, "attributes": ["Red", "red ", "big"]},
                {"object_id": 8, "attributes": ["big", "old"]},
                {"object_id": 9},
                {"attributes": ["red"]},
            ],
        }
    ]
    found = visual_genome.read(
        write(tmp_path / "objects.json", objects),
        image_data=write(
            tmp_path / "image_data.json", [{"image_id": 1, "width": 20, "height": 10}]
        ),
        attributes=write(tmp_path / "attributes.json", attributes),
    )
    (image,) = found.objects
    assert (image.class_names, image.attributes) == (("dog",), (("red", "big", "old"),))
    assert reasons(found) == ["bad-row", "duplicate-id", "bad-row", "bad-row", "unknown-image"]


def test_vqa_v2(tmp_path: Path) -> None:
    questions = [
        {"question_id": 1, "image_id": 5, "question": "What?"},
        {"question_id": 2, "image_id": 5, "question": "Who?"},
        {"question_id": 3, "image_id": 5, "question": " "},
        {"question_id": 4, "question": "x"},
    ]
    answers = [
        {"question_id": 1, "image_id": 5, "answers": [{"answer": "a"}, {"answer": "b"}]},
        {"question_id": 2, "image_id": 6, "answers": [{"answer": "a"}]},
        {"question_id": 3, "image_id": 5, "answers": [{"answer": "a"}]},
        {"question_id": 1, "image_id": 5, "answers": [{"answer": "a"}]},
        {"question_id": 7, "image_id": 5, "answers": [{"confidence": "a"}]},
    ]
    found = vqa_v2.read(
        write(tmp_path / "q.json", {"questions": questions}),
        annotations=write(tmp_path / "a.json", {"annotations": answers}),
    )
    (question,) = found.questions
    assert (question.image_id, question.answers) == ("coco/000000000005", ("a", "b"))
    assert reasons(found) == ["duplicate-id", "bad-row", "other-image", "empty-text", "bad-row"]


def test_gqa_test_questions_have_no_answers(tmp_path: Path) -> None:
    rows = {
        "1": {"question": "Is it?", "imageId": "n1"},
        "2": {"question": "Is it?", "imageId": "n1", "answer": None},
        "3": {"imageId": "n1", "answer": "yes"},
        "4": [],
    }
    found = gqa.read(write(tmp_path / "g.json", rows))
    assert [(question.question_id, question.answers) for question in found.questions] == [("1", ())]
    assert reasons(found) == ["no-answers", "bad-row", "bad-row"]


def test_vg_qa(tmp_path: Path) -> None:
    asked = [
        {"qa_id": 1, "image_id": 4, "question": "What?", "answer": "That."},
        {"qa_id": 2, "image_id": 5, "question": "What?", "answer": "That."},
        {"qa_id": 3, "image_id": 4, "question": "What?", "answer": ""},
    ]
    found = vg_qa.read(write(tmp_path / "q.json", [{"id": 4, "qas": asked}, {"id": 5}]))
    assert [question.question_id for question in found.questions] == ["1"]
    assert reasons(found) == ["other-image", "empty-text", "bad-row"]


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (flickr_tokens.read, "a.jpg#0\tA dog .", ["a.jpg#0\tAgain .", "a.jpg 1\tx", "a.jpg#1\t "]),
        (flickr8k_cn.read, "a.jpg#zhc#0 一只狗", ["a.jpg#zhc#0 x", "a.jpg#0 x", "a.jpg#zhc#1"]),
        (coco_cn.read, "COCO_val2014_000000000001#0\t一只狗", ["COCO_val2014_000000000001#一\tx"]),
    ],
)
def test_caption_lines(
    tmp_path: Path, read: Callable[[Path], Annotations], good: str, bad: list[str]
) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join([good, *bad]), encoding="utf-8")
    found = read(path)
    assert len(found.captions) == 1
    assert [dropped.detail.split(":")[1].strip() for dropped in found.quarantined] == [
        f"line {number}" for number in range(2, 2 + len(bad))
    ]


def test_a_photo_in_no_split_list_is_set_aside(tmp_path: Path) -> None:
    tokens = tmp_path / "t.txt"
    tokens.write_text("a.jpg#0\tOne .\nb.jpg#0\tTwo .\n")
    (tmp_path / "train.txt").write_text("a.jpg\n")
    found = flickr_tokens.read(tokens, split_lists={"train": tmp_path / "train.txt"})
    assert [(caption.image_id, caption.split) for caption in found.captions] == [
        ("flickr8k/a", "train")
    ]
    assert reasons(found) == ["in-no-split"]


def test_a_photo_in_two_split_lists_is_an_error(tmp_path: Path) -> None:
    tokens = tmp_path / "t.txt"
    tokens.write_text("a.jpg#0\tOne .\n")
    (tmp_path / "train.txt").write_text("a.jpg\n")
    (tmp_path / "test.txt").write_text("b\na\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    with pytest.raises(AnnotationError, match=r"test\.txt: line 2: photo 'a' is also in .*'train'"):
        flickr_tokens.read(tokens, split_lists=lists)


def test_karpathy(tmp_path: Path) -> None:
    images = [
        {"filename": "a.jpg", "split": "restval", "sentences": [{"raw": "x", "sentid": 1}]},
        {"filename": "b.jpg", "split": "later", "sentences": []},
        {"filename": "c.jpg", "split": "val", "sentences": [{"raw": "", "sentid": 2}]},
        {"filename": "a.jpg", "split": "val", "sentences": []},
    ]
    found = flickr_karpathy.read(write(tmp_path / "k.json", {"images": images}))
    assert [(caption.image_id, caption.split) for caption in found.captions] == [
        ("flickr8k/a", "train")
    ]
    assert reasons(found) == ["in-no-split", "empty-text", "duplicate-id"]


def test_nlvr2(tmp_path: Path) -> None:
    good = {"identifier": "dev-1-0-0", "sentence": "Two dogs.", "label": "True"}
    rows = [good, good, {**good, "identifier": "dev"}, {**good, "label": []}, 5]
    path = tmp_path / "n.json"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = nlvr2.read(path)
    assert [pair.pair_id for pair in found.pairs] == ["dev-1-0-0"]
    assert reasons(found) == ["duplicate-id", "bad-row", "bad-row", "bad-row"]


def test_aic_icc_training_layout(tmp_path: Path) -> None:
    rows = [
        {"url": "u", "image_id": "a.jpg", "caption": ["一只狗", "一 只 狗", ""]},
        {"url": "u", "image_id": "a.jpg", "caption": ["x"]},
        {"url": "u", "image_id": "b.jpg"},
    ]
    found = aic_icc.read(write(tmp_path / "a.json", rows), split="train")
    assert [(caption.image_id, caption.caption_id) for caption in found.captions] == [
        ("aic_icc/a", "a.jpg#0"),
        ("aic_icc/a", "a.jpg#1"),
    ]
    assert reasons(found) == ["empty-text", "duplicate-id", "bad-row"]


READERS: dict[str, Callable[[Path], Annotations]] = {
    "aic_icc": aic_icc.read,
    "coco_captions": coco_captions.read,
    "coco_cn": coco_cn.read,
    "coco_instances": coco_instances.read,
    "flickr8k_cn": flickr8k_cn.read,
    "flickr30k_cn": flickr30k_cn.read,
    "flickr_karpathy": flickr_karpathy.read,
    "flickr_tokens": flickr_tokens.read,
    "gqa": gqa.read,
    "nlvr2": nlvr2.read,
    "translated_texts": translated_texts.read,
    "vg_qa": vg_qa.read,
    "vinvl_texts": vinvl_texts.read,
    "visual_genome": lambda path: visual_genome.read(path, image_data=path),
    "vqa_v2": vqa_v2.read,
}


def test_no_reader_is_forgotten_here() -> None:
    from flows.readers import reader_names

    folders = {"yolo_boxes"}  # reads no single file
    assert set(reader_names()) == {*READERS, *folders}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content",
    [b"", b" \n", b'{"images": [', b"\xff\xfe{", b"\xc4\xe3\xba\xc3", b"17", b"[" * 100_000],
    ids=["empty", "blank", "cut", "utf-16", "gbk", "number", "deep"],
)
def test_a_broken_file_ends_in_one_line_that_names_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    try:
        found = READERS[name](path)
    except AnnotationError as error:
        message = str(error)
    else:  # one caption a line: a line that is none is a row
        assert name in ("coco_cn", "flickr8k_cn", "flickr30k_cn", "flickr_tokens")
        (dropped,) = found.quarantined
        message = dropped.detail
    assert "\n" not in message
    assert "broken.json" in message
    assert len(message) < 300


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_or_a_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.json: no such file"):
        READERS[name](tmp_path / "nowhere.json")
    with pytest.raises(MissingFileError, match="check the path"):
        READERS[name](tmp_path)
