"""The readers on what the demo writes: the same road as real data."""

from pathlib import Path

import pytest

from flows.demo.write import NAMESPACE, write_demo
from storage.annotations import coco_captions, coco_instances, gqa, visual_genome, vqa_v2
from storage.images import list_images
from storage.published.label_maps import read_label_map
from tests.builders_storage import same


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, seed=3, num_train=3, num_val=1, num_test=1, workers=1)
    return folder


def test_everything_joins_and_nothing_is_dropped(demo: Path) -> None:
    texts = demo / "annotations"
    photos, _ = list_images(demo / "images/train", NAMESPACE)
    ids = {photo.image_id for photo in photos}
    assert len(ids) == 3
    for language in ("en", "zh"):
        path = texts / f"captions_{language}_train.json"
        said = coco_captions.read(path, namespace=NAMESPACE, split="train", language=language)
        assert said.quarantined == ()
        assert {caption.image_id for caption in said.captions} == ids
    asked = vqa_v2.read(
        texts / "v2_OpenEnded_scenes_train_questions.json",
        annotations=texts / "v2_scenes_train_annotations.json",
        namespace=NAMESPACE,
        language="zh",
    )
    assert asked.quarantined == ()
    assert {question.image_id for question in asked.questions} == ids
    assert {len(question.answers) for question in asked.questions} == {10}
    in_english = gqa.read(texts / "train_balanced_questions.json", namespace=NAMESPACE)
    assert in_english.quarantined == ()
    assert {question.image_id for question in in_english.questions} <= ids


def test_both_box_files_hold_the_same_boxes(demo: Path) -> None:
    texts = demo / "annotations"
    coco = coco_instances.read(texts / "instances_train.json", namespace=NAMESPACE, split="train")
    genome = visual_genome.read(
        texts / "visual_genome/train/objects.json",
        image_data=texts / "visual_genome/train/image_data.json",
        attributes=texts / "visual_genome/train/attributes.json",
        namespace=NAMESPACE,
        split="train",
    )
    assert coco.quarantined == genome.quarantined == ()
    assert len(coco.objects) == len(genome.objects) == 3
    label_map = read_label_map(demo / "labelmap.json")
    for plain, described in zip(coco.objects, genome.objects, strict=True):
        assert plain.image_id == described.image_id
        assert plain.class_names == described.class_names
        assert (plain.boxes == described.boxes).all()
        assert all(described.attributes)
        assert set(plain.class_names) <= set(label_map.class_names)
        assert {word for words in described.attributes for word in words} <= set(
            label_map.attribute_names
        )
    assert not same(coco.objects[0], coco.objects[1])
