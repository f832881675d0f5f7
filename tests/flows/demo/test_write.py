"""The demo's files through the readers of the published data sets."""

from pathlib import Path

import numpy as np
import pytest

from flows.demo.scenes import ATTRIBUTE_FAMILIES
from flows.demo.shapes import CLASS_NAMES
from flows.demo.texts import find_colour_phrases
from flows.demo.truth import read_truth
from flows.demo.write import write_demo
from storage.annotations import coco_captions, coco_instances, gqa, visual_genome, vqa_v2
from storage.images import decode, list_images
from storage.published.label_maps import read_label_map


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, seed=3, num_train=6, num_val=2, num_test=6, workers=1)
    return folder


def test_photos_are_listed_under_the_ids_of_the_truth(demo: Path) -> None:
    truth = read_truth(demo / "truth.json")
    for split, num in (("train", 6), ("val", 2), ("test", 6)):
        sources, dropped = list_images(demo / "images" / split, "scenes")
        assert dropped == []
        assert len(sources) == num
        assert all(truth[source.image_id].split == split for source in sources)
        assert decode(sources[0]).pixels.shape == (240, 320, 3)


def test_both_box_formats_say_what_was_drawn(demo: Path) -> None:
    truth = read_truth(demo / "truth.json")
    genome = demo / "annotations/visual_genome/test"
    readers = (
        coco_instances.read(
            demo / "annotations/instances_test.json", namespace="scenes", split="test"
        ),
        visual_genome.read(
            genome / "objects.json",
            image_data=genome / "image_data.json",
            attributes=genome / "attributes.json",
            namespace="scenes",
            split="test",
        ),
    )
    for read in readers:
        assert read.quarantined == ()
        assert len(read.objects) == 6
        for shown in read.objects:
            drawn = truth[shown.image_id].objects
            assert np.array_equal(shown.boxes, np.array([o.box for o in drawn], np.float32))
            assert shown.class_names == tuple(o.class_name for o in drawn)
    for shown in readers[1].objects:
        drawn = truth[shown.image_id].objects
        assert shown.attributes == tuple((o.colour, o.pattern, o.size) for o in drawn)


def test_captions_tell_nothing_but_the_truth(demo: Path) -> None:
    truth = read_truth(demo / "truth.json")
    path = demo / "annotations/captions_zh_train.json"
    captions = coco_captions.read(path, namespace="scenes", split="train", language="zh").captions
    assert len(captions) == 30
    num_phrases = 0
    for caption in captions:
        for phrase in find_colour_phrases(caption.text):
            num_phrases += 1
            shown = truth[caption.image_id].colour_phrases
            assert (phrase.colour, phrase.class_name) in shown, caption.text
    assert num_phrases > 40


def test_questions_reach_both_readers(demo: Path) -> None:
    notes = demo / "annotations"
    chinese = vqa_v2.read(
        notes / "v2_OpenEnded_scenes_train_questions.json",
        annotations=notes / "v2_scenes_train_annotations.json",
        namespace="scenes",
        language="zh",
    )
    english = gqa.read(notes / "train_balanced_questions.json", namespace="scenes")
    assert chinese.quarantined == english.quarantined == ()
    assert len(chinese.questions) >= 30
    assert {len(question.answers) for question in chinese.questions} == {10}
    assert {q.question_type for q in chinese.questions} >= {"colour", "pattern", "exist"}
    assert 0 < len(english.questions) <= len(chinese.questions)


def test_label_map_names_every_class_and_attribute(demo: Path) -> None:
    found = read_label_map(demo / "labelmap.json")
    assert found.class_names[1:] == CLASS_NAMES
    families = [name for family in ATTRIBUTE_FAMILIES.values() for name in family]
    assert list(found.attribute_names[1:]) == families


def test_the_same_seed_gives_the_same_bytes(demo: Path, tmp_path: Path) -> None:
    write_demo(tmp_path, seed=3, num_train=6, num_val=2, num_test=6, workers=2)
    for path in sorted(demo.rglob("*.*")):
        assert (tmp_path / path.relative_to(demo)).read_bytes() == path.read_bytes(), path.name


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    facts = write_demo(
        tmp_path,
        seed=1,
        num_train=2,
        num_val=0,
        num_test=1,
        workers=1,
        on_image=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert facts.num_images == {"train": 2, "val": 0, "test": 1}
    assert sum(facts.kinds.values()) == facts.num_questions
