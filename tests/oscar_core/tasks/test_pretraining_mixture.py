"""Which documents there are, and how often each source and kind is drawn."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oscar_core.errors import TaskError
from oscar_core.task import Phase
from oscar_core.tasks.pretraining.dataset import Examples, examples, phases
from oscar_core.tasks.pretraining.documents import tag_key
from oscar_core.tasks.pretraining.records import Config, Extra
from oscar_core.training.order import Order
from oscar_core.views import Views, ViewSettings
from storage.annotation_shards import write_annotations
from storage.library import Library, open_library
from storage.region_shards import RegionReader
from storage.tag_shards import write_tags
from tests.builders_library import make_library
from tests.builders_storage import write_regions

VIEW = ViewSettings(max_regions=4)


def library_of(*sources: str) -> Library:
    """Captions of the sources in turn; questions of the last one."""
    library = make_library()
    said = library.annotations
    captions = tuple(
        replace(each, source=sources[place % len(sources)])
        for place, each in enumerate(said.captions)
    )
    questions = tuple(replace(each, source=sources[-1]) for each in said.questions)
    annotations = replace(said, captions=captions, questions=questions)
    return replace(library, annotations=annotations)


LIBRARY = library_of("coco", "web", "vqa")


def opened(config: Config, library: Library = LIBRARY) -> tuple[Examples, Phase]:
    found = examples(config, library, "train")
    return found, phases(config, found)[-1]


def drawn_sources(config: Config, num: int = 600) -> Counter[str]:
    found, phase = opened(config)
    order = Order([phase], batch_size=num, seed=0)
    documents = found.documents
    numbers = documents.source_numbers[order.batch(0, 0).indices]
    return Counter(documents.sources[number] for number in numbers)


def test_every_text_is_drawn_alike_by_default() -> None:
    # of 18 training captions 6 each, and 36 questions
    assert drawn_sources(Config(view=VIEW), 540) == {"coco": 60, "web": 60, "vqa": 420}


def test_a_source_of_weight_2_is_drawn_twice_as_often() -> None:
    counts = drawn_sources(Config(view=VIEW, sources={"coco": 2.0}), 600)
    assert counts == {"coco": 120, "web": 60, "vqa": 420}


def test_a_source_of_weight_0_is_no_document() -> None:
    found, _ = opened(Config(view=VIEW, sources={"web": 0.0}))
    present = {found.documents.sources[number] for number in found.documents.source_numbers}
    assert present == {"coco", "vqa"}
    assert len(found) == 48
    assert all(each.document.image_id for each in found)


def test_a_source_that_says_nothing_is_told() -> None:
    with pytest.raises(TaskError, match="'cocco' has no text here; there are coco, vqa, web"):
        opened(Config(view=VIEW, sources={"cocco": 1.0}))


def test_weights_hold_inside_captions_and_questions() -> None:
    config = Config(view=VIEW, sources={"coco": 3.0}, question_share=0.5)
    counts = drawn_sources(config, 600)
    # captions: 18 of weight 3 against 6 and 6
    assert counts["coco"] == 180
    assert counts["web"] == 60
    assert counts["vqa"] == 360


def test_an_extra_set_draws_its_wrong_texts_from_itself() -> None:
    config = Config(view=VIEW, extra=Extra(sources=("web",), loss_weight=0.5, negatives="any"))
    found, phase = opened(config)
    for example in found:
        source = found.documents.sources[found.documents.source_numbers[example.number]]
        corpus = example.corpus
        assert (corpus.negatives == "any") == (source == "web")
        inside = found.documents.source_numbers[np.asarray(corpus.members)]
        names = {found.documents.sources[number] for number in inside}
        assert names == ({"web"} if source == "web" else {"coco", "vqa"})
    weights = {group.loss_weight for group in phase.groups}
    assert weights == {None, 0.5}
    assert drawn_sources(config, 600)["web"] == 300


def test_source_weights_inside_an_extra_set_leave_its_loss_weight() -> None:
    extra = Extra(sources=("web", "vqa"), loss_weight=0.6)
    _, phase = opened(Config(view=VIEW, sources={"web": 2.0}, extra=extra))
    assert [(group.pool, group.loss_weight) for group in phase.groups] == [
        (0, None),
        (1, 0.6),
        (1, 0.6),
    ]
    batch = Order([phase], batch_size=40, seed=0).batch(0, 0)
    assert batch.weights[batch.pools == 0].sum() == pytest.approx(0.4)
    assert batch.weights[batch.pools == 1].sum() == pytest.approx(0.6)


def test_tags_that_one_image_alone_has_are_near_to_nothing() -> None:
    config = Config(view=VIEW, near_negatives=0.5)
    own = LIBRARY.tags["blocks/000"]
    alone = {"blocks/000": replace(own, tags=("灯",) * len(own.tags))}
    found, _ = opened(config, replace(LIBRARY, tags={**LIBRARY.tags, **alone}))
    captions = list(found.documents[: found.documents.num_captions])
    images_by_tags: dict[str, set[str]] = {}
    for each in captions:
        images_by_tags.setdefault(tag_key(each.second), set()).add(each.image_id)
    sizes = {tags: len(images) for tags, images in images_by_tags.items()}
    assert 1 in sizes.values()
    near = found[0].corpus.near
    assert set(near) == {tags for tags, num in sizes.items() if num > 1}
    for tags, numbers in near.items():
        assert {captions[number].image_id for number in numbers} == images_by_tags[tags]


def test_a_misspelled_source_of_weight_0_is_told() -> None:
    with pytest.raises(TaskError, match="'webb'"):
        opened(Config(view=VIEW, sources={"webb": 0.0}))


@pytest.mark.parametrize("sources", [("coco", "web", "vqa"), ("nothing",)])
def test_an_extra_set_is_neither_all_nor_nothing(sources: tuple[str, ...]) -> None:
    with pytest.raises(TaskError, match=r"extra set|has no text here"):
        opened(Config(view=VIEW, extra=Extra(sources=sources, loss_weight=0.5)))


@pytest.mark.parametrize(
    "wrong", [{"loss_weight": 0.0}, {"loss_weight": 1.0}, {"share": 0.0}, {"sources": ()}]
)
def test_an_extra_set_takes_part(wrong: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="extra"):
        Extra(**({"sources": ("web",), "loss_weight": 0.5} | wrong))


def test_wrong_answers_need_questions() -> None:
    library = make_library()
    library = replace(library, annotations=replace(library.annotations, questions=()))
    config = Config(view=VIEW, negatives="answers")
    with pytest.raises(TaskError, match="need questions with answers"):
        opened(config, library)
    opened(replace(config, mismatch=0.0, wrong_first=0.0), library)


def test_questions_without_answers_are_no_documents() -> None:
    library = make_library()
    first, *rest = library.annotations.questions
    questions = (replace(first, answers=()), *rest)
    library = replace(library, annotations=replace(library.annotations, questions=questions))
    assert len(opened(Config(view=VIEW), library)[0]) == 53


def test_only_questions_are_predicted() -> None:
    found = examples(Config(view=VIEW), LIBRARY, "test")
    assert all(each.document.is_question for each in found)
    assert len(found) == 8
    assert [each.number for each in found[2:4]] == [found[2].number, found[3].number]


def stored(folder: Path, library: Library) -> Library:
    """The same library in files; 16 images a row group."""
    regions = list(library.regions.values())
    write_regions(folder / "regions", regions, rows_per_shard=32, feature_width=6)
    write_tags(folder / "tags", library.tags.values())
    write_annotations(folder / "annotations", library.annotations)
    return open_library(folder / "regions", folder / "tags", folder / "annotations")


def test_stored_documents_are_those_in_memory(tmp_path: Path) -> None:
    config = Config(view=VIEW, sources={"web": 0.0, "coco": 2.0})
    told, mixed = opened(config)
    found, phase = opened(config, stored(tmp_path, LIBRARY))
    assert list(found.documents) == list(told.documents)
    for one, other in zip(mixed.groups, phase.groups, strict=True):
        assert np.array_equal(one.indices, other.indices)
        assert one.share == other.share


def test_examples_go_to_another_process_by_name(tmp_path: Path) -> None:
    found, _ = opened(Config(view=VIEW), stored(tmp_path, LIBRARY))
    sent = pickle.dumps(found)
    again = pickle.loads(sent)
    assert [each.document for each in again] == [each.document for each in found]
    assert np.array_equal(again[0].view.regions, found[0].view.regions)
    assert "球".encode() not in sent


def test_row_groups_are_shuffled_and_kept_together(tmp_path: Path) -> None:
    library = stored(tmp_path, make_library(num_train=40))
    found, phase = opened(Config(view=VIEW, window=1), library)
    (group,) = phase.groups
    assert group.window == 1
    reader = library.regions
    assert isinstance(reader, RegionReader)
    places = [reader.group_of(example.document.image_id) for example in found]
    assert group.places is not None
    assert group.places.tolist() == places
    drawn = Order([phase], batch_size=len(found), seed=0).batch(0, 0).indices
    visited = np.array(places)[drawn]
    assert (np.diff(visited) != 0).sum() == len(set(places)) - 1 == 2


def test_few_row_groups_are_one_window(tmp_path: Path) -> None:
    library = stored(tmp_path, make_library(num_train=40))
    for window in (0, 3):
        _, phase = opened(Config(view=VIEW, window=window), library)
        assert phase.groups[0].places is None


def test_tags_alone_read_no_regions(tmp_path: Path) -> None:
    library = replace(LIBRARY, regions={"blocks/000": LIBRARY.regions["blocks/000"]})
    views = Views(library, VIEW)
    assert views.tags("blocks/001") == Views(LIBRARY, VIEW)["blocks/001"].tags
    picky = Views(LIBRARY, ViewSettings(max_regions=4, min_confidence=0.5))
    assert picky.tags("blocks/001") == picky["blocks/001"].tags
    assert len(picky.tags("blocks/001")) < len(views.tags("blocks/001"))
