"""Every reader on the real files, with the counts that their README states."""

from collections import Counter
from pathlib import Path

import pytest

from storage.annotations import (
    aic_icc,
    coco_captions,
    coco_cn,
    coco_instances,
    flickr8k_cn,
    flickr_karpathy,
    flickr_tokens,
    gqa,
    nlvr2,
    vg_qa,
    visual_genome,
    vqa_v2,
    yolo_boxes,
)
from storage.images import list_images
from tests.locations import data_dir


@pytest.fixture(scope="module")
def real() -> Path:
    return data_dir("real")


@pytest.mark.parametrize(
    ("split", "num_captions", "num_images"), [("train", 315, 63), ("val", 1381, 276)]
)
def test_coco_captions(real: Path, split: str, num_captions: int, num_images: int) -> None:
    found = coco_captions.read(real / f"coco/annotations/captions_{split}2017.json", split=split)
    assert found.quarantined == ()
    assert len(found.captions) == num_captions
    assert len({caption.image_id for caption in found.captions}) == num_images
    assert {(caption.split, caption.language) for caption in found.captions} == {(split, "en")}
    photos, _ = list_images(real / f"coco/{split}2017", "coco")
    assert {caption.image_id for caption in found.captions} <= {photo.image_id for photo in photos}


@pytest.mark.parametrize(
    ("split", "num_images", "num_boxes"), [("train", 89, 737), ("val", 153, 1450)]
)
def test_coco_instances(real: Path, split: str, num_images: int, num_boxes: int) -> None:
    found = coco_instances.read(real / f"coco/annotations/instances_{split}2017.json", split=split)
    assert found.quarantined == ()
    assert len(found.objects) == num_images
    assert sum(len(image.boxes) for image in found.objects) == num_boxes
    photos, _ = list_images(real / f"coco/{split}2017", "coco")
    assert {image.image_id for image in found.objects} <= {photo.image_id for photo in photos}
    for image in found.objects:
        assert (image.boxes[:, :2] <= image.boxes[:, 2:]).all()
        assert (image.boxes >= 0).all()
        assert image.boxes[:, 2].max(initial=0) <= image.width - 1
        assert image.boxes[:, 3].max(initial=0) <= image.height - 1


def test_a_coco_box_keeps_both_ends_inside(real: Path) -> None:
    found = coco_instances.read(real / "coco/annotations/instances_val2017.json")
    image = next(each for each in found.objects if each.image_id == "coco/000000000139")
    number = image.class_names.index("potted plant")
    # published: 236.98, 142.51, 24.7, 69.5
    assert image.boxes[number].tolist() == pytest.approx([236.98, 142.51, 260.68, 211.01], abs=1e-3)
    assert (image.height, image.width) == (426, 640)


@pytest.mark.parametrize(("split", "num_photos"), [("train", 34), ("val", 121)])
def test_yolo_copies_of_coco_boxes(real: Path, split: str, num_photos: int) -> None:
    found = yolo_boxes.read(
        real / f"coco/yolo_labels/{split}2017",
        photos=real / f"coco/{split}2017",
        classes=data_dir("labelmaps", "coco_80_categories.json"),
        split=split,
    )
    assert found.quarantined == ()
    assert len(found.objects) == num_photos
    exact = coco_instances.read(real / f"coco/annotations/instances_{split}2017.json")
    photos, _ = list_images(real / f"coco/{split}2017", "coco")
    assert {image.image_id for image in (*found.objects, *exact.objects)} <= {
        photo.image_id for photo in photos
    }
    names = {name for image in exact.objects for name in image.class_names}
    assert len(names & {name for image in found.objects for name in image.class_names}) > 10


def test_yolo_classes_may_be_the_categories_of_an_instances_file(real: Path) -> None:
    labels, photos = real / "coco/yolo_labels/train2017", real / "coco/train2017"
    lists = (
        data_dir("labelmaps", "coco_80_categories.json"),
        real / "coco/annotations/instances_train2017.json",
    )
    one, other = (yolo_boxes.read(labels, photos=photos, classes=each) for each in lists)
    assert [image.class_names for image in one.objects] == [
        image.class_names for image in other.objects
    ]


def test_crowds_are_marked(real: Path) -> None:
    found = coco_instances.read(real / "coco/annotations/instances_val2017.json")
    assert 0 < sum(int(image.is_crowd.sum()) for image in found.objects) < 50


def test_vqa_v2(real: Path) -> None:
    found = vqa_v2.read(
        real / "vqa_v2/v2_OpenEnded_mscoco_train2014_questions.json",
        annotations=real / "vqa_v2/v2_mscoco_train2014_annotations.json",
    )
    assert found.quarantined == ()
    assert len(found.questions) == 124
    assert sum(len(question.answers) for question in found.questions) == 1240
    assert Counter(question.answer_type for question in found.questions) == {
        "other": 44,
        "yes/no": 41,
        "number": 39,
    }
    first = found.questions[0]
    assert (first.image_id, first.question_id, first.question_type) == (
        "coco/000000000025",
        "25006",
        "what is the",
    )
    photos, _ = list_images(real / "coco/train2017", "coco")
    more, _ = list_images(real / "coco/val2017", "coco")
    ids = {photo.image_id for photo in [*photos, *more]}
    assert {question.image_id for question in found.questions} <= ids
    assert len({question.image_id for question in found.questions}) == 80


def test_vqa_questions_alone_have_no_answers(real: Path) -> None:
    found = vqa_v2.read(real / "vqa_v2/v2_OpenEnded_mscoco_train2014_questions.json")
    assert len(found.questions) == 124
    assert {question.answers for question in found.questions} == {()}


def test_flickr8k_tokens_with_the_official_splits(real: Path) -> None:
    folder = real / "flickr8k"
    lists = {
        split: folder / f"Flickr_8k.{name}Images.txt"
        for split, name in (("train", "train"), ("val", "dev"), ("test", "test"))
    }
    found = flickr_tokens.read(folder / "Flickr8k.token.txt", split_lists=lists)
    assert found.quarantined == ()
    assert Counter(caption.split for caption in found.captions) == {
        "train": 770,
        "val": 140,
        "test": 145,
    }


def test_flickr8k_photos_join(real: Path) -> None:
    found = flickr_tokens.read(real / "flickr8k/Flickr8k.token.txt")
    folder = next(path for path in (real / "flickr8k").rglob("*.jpg")).parent
    photos, _ = list_images(folder, "flickr8k")
    assert {photo.image_id for photo in photos} == {caption.image_id for caption in found.captions}
    assert len(photos) == 211


def test_flickr30k_tokens(real: Path) -> None:
    found = flickr_tokens.read(
        real / "flickr30k/results_20130124.token", namespace="flickr30k", split="train"
    )
    assert (len(found.captions), len(found.quarantined)) == (15, 0)
    assert found.captions[0].image_id == "flickr30k/2248275918"
    assert found.captions[0].source == "flickr30k"


def test_karpathy(real: Path) -> None:
    found = flickr_karpathy.read(real / "flickr8k/dataset_flickr8k.json")
    assert found.quarantined == ()
    assert len({caption.image_id for caption in found.captions}) == 97
    official = flickr_tokens.read(
        real / "flickr8k/Flickr8k.token.txt",
        split_lists={"val": real / "flickr8k/Flickr_8k.devImages.txt"},
    )
    val = {caption.image_id for caption in official.captions}
    for caption in found.captions:
        assert (caption.split == "val") == (caption.image_id in val)


@pytest.mark.parametrize(
    ("file", "num_captions"),
    [
        ("flickr8kzhc.caption.txt", 1055),
        ("flickr8kzhb.caption.txt", 1055),
        ("flickr8kzhg.caption.txt", 1055),
        ("flickr8kzhmtest.captions.txt", 145),
        ("flickr8kenc.caption.txt", 1055),
    ],
)
def test_flickr8k_cn(real: Path, file: str, num_captions: int) -> None:
    folder = real / "flickr8k/flickr8kcn"
    lists = {split: folder / f"flickr8k{split}.txt" for split in ("train", "val", "test")}
    found = flickr8k_cn.read(folder / file, split_lists=lists)
    assert found.quarantined == ()
    assert len(found.captions) == num_captions
    english = flickr_tokens.read(real / "flickr8k/Flickr8k.token.txt")
    assert {c.image_id for c in found.captions} <= {c.image_id for c in english.captions}


def test_coco_cn(real: Path) -> None:
    found = coco_cn.read(real / "coco_cn/coco-cn_ext.icap2020.txt", split="val")
    assert (len(found.captions), len(found.quarantined)) == (15, 0)
    assert found.captions[0].image_id == "coco/000000001296"
    assert {caption.language for caption in found.captions} == {"zh"}


def test_gqa(real: Path) -> None:
    found = gqa.read(real / "gqa/questions.json")
    assert [(q.image_id, q.answers, q.question_type) for q in found.questions] == [
        ("gqa/n578564", ("picture",), "query"),
        ("gqa/n166008", ("yes",), "logical"),
        ("gqa/2354786", ("yes",), "verify"),
    ]


def test_visual_genome(real: Path) -> None:
    folder = real / "visual_genome"
    found = visual_genome.read(
        folder / "objects.json",
        image_data=folder / "image_data.json",
        attributes=folder / "attributes.json",
    )
    assert found.quarantined == ()
    (image,) = found.objects
    assert (image.image_id, len(image.boxes), image.width) == ("visual_genome/1", 31, 800)
    clock = image.class_names.index("clock")
    assert image.attributes[clock][0] == "green"
    # the two files disagree about boxes; those of objects.json count
    assert image.boxes[clock].tolist() == [422, 63, 422 + 77 - 1, 63 + 363 - 1]
    # two of the five records were merged into other objects by this release
    named = zip(image.class_names, image.attributes, strict=True)
    assert {name: words for name, words in named if words} == {
        "clock": ("green", "tall"),
        "sidewalk": ("sidewalk",),
        "shoes": ("grey",),
    }


def test_vg_qa(real: Path) -> None:
    found = vg_qa.read(real / "visual_genome/question_answers.json")
    assert (len(found.questions), len(found.quarantined)) == (5, 0)
    assert found.questions[0].answers == ("Sailboats.",)


@pytest.mark.parametrize("file", ["dev.json", "test1.json"])
def test_nlvr2(real: Path, file: str) -> None:
    found = nlvr2.read(real / "nlvr2" / file, split="val")
    assert (len(found.pairs), len(found.quarantined)) == (6, 0)
    assert {pair.is_true for pair in found.pairs} == {True, False}
    assert all(pair.left_image_id.endswith("-img0") for pair in found.pairs)
    assert all(pair.right_image_id == pair.left_image_id[:-1] + "1" for pair in found.pairs)


def test_aic_icc_references_without_their_segmentation(real: Path) -> None:
    found = aic_icc.read(real / "aic_icc_eval/id_to_words.json")
    assert (len(found.captions), len(found.quarantined)) == (15, 0)
    assert len({caption.image_id for caption in found.captions}) == 3
    assert not any(" " in caption.text for caption in found.captions)


@pytest.mark.parametrize(
    ("file", "num_captions", "reasons"),
    [
        ("id_to_test_caption.json", 3, {}),
        ("has_null_data.json", 1, {"empty-text": 1, "no-image": 1}),
        ("key_error.json", 1, {"bad-row": 2}),
    ],
)
def test_aic_icc_submissions(
    real: Path, file: str, num_captions: int, reasons: dict[str, int]
) -> None:
    found = aic_icc.read(real / "aic_icc_eval" / file)
    assert len(found.captions) == num_captions
    assert Counter(dropped.reason for dropped in found.quarantined) == reasons
