"""What each process computes in each update, however many processes and workers there are."""

import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from oscar_core.task import Knowledge, load_task
from oscar_core.tasks.pretraining.records import Config, Extra
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.training.lesson import Lesson
from oscar_core.training.loader import Part, StepParts, batches
from oscar_core.training.order import Order
from oscar_core.views import ViewSettings
from storage.annotation_shards import write_annotations
from storage.library import Library, open_library
from storage.tag_shards import write_tags
from tests.builders_library import make_library, tiny_training
from tests.builders_storage import write_regions

TASK = load_task("pretraining")
CONFIG = Config(view=ViewSettings(max_regions=4), question_share=0.5)


def lesson_of(config: Config = CONFIG, library: Library | None = None) -> Lesson:
    library = library or make_library()
    examples = TASK.examples(config, library, "train")
    return Lesson(
        task=TASK,
        config=config,
        knowledge=Knowledge(tokenizer=Tokenizer(build_vocabulary(TASK.texts(config, library)))),
        examples=examples,
        phases=TASK.phases(config, examples),
        identity="",
    )


LESSON = lesson_of()


def steps(
    num_steps: int,
    *,
    lesson: Lesson = LESSON,
    first: int = 0,
    num: int = 1,
    number: int = 0,
    workers: int = 0,
    **training: Any,
) -> list[StepParts]:
    chosen = tiny_training(**training)
    order = Order(lesson.phases, batch_size=chosen.batch_size, seed=chosen.seed)
    found = batches(
        lesson,
        chosen,
        order,
        phase=0,
        first_step=first,
        num=num,
        number=number,
        workers=workers,
    )
    with closing(found):  # type: ignore[type-var]  # a generator
        return list(islice(found, num_steps))


def tensors(part: Part) -> Iterator[torch.Tensor]:
    for rows in part.batch.rows:
        packed = rows.packed
        yield from (packed.input_ids, packed.token_type_ids, packed.attention_mask)
        yield from (packed.region_features, rows.word_labels, rows.match_labels)


def assert_alike(some: list[StepParts], others: list[StepParts]) -> None:
    assert [each.step for each in some] == [each.step for each in others]
    for one, other in zip(some, others, strict=True):
        for part, again in zip(one.parts, other.parts, strict=True):
            assert replace(part, batch=None) == replace(again, batch=None)
            for tensor, same in zip(tensors(part), tensors(again), strict=True):
                assert torch.equal(tensor, same)


def test_workers_change_nothing_and_end() -> None:
    alone = steps(5, first=3, accumulation=2)
    assert_alike(steps(5, first=3, accumulation=2, workers=2), alone)
    assert not multiprocessing.active_children()


def test_workers_read_stored_regions_and_texts(tmp_path: Path) -> None:
    library = make_library(num_train=40)
    regions = list(library.regions.values())
    write_regions(tmp_path / "regions", regions, rows_per_shard=24, feature_width=6)
    write_tags(tmp_path / "tags", library.tags.values())
    write_annotations(tmp_path / "annotations", library.annotations)
    stored = open_library(*(tmp_path / name for name in ("regions", "tags", "annotations")))
    next(iter(stored.regions.values()))  # files are open before the workers begin
    config = replace(CONFIG, window=1)
    lesson = lesson_of(config, stored)
    assert lesson.phases[0].groups[0].places is not None
    assert_alike(steps(6, lesson=lesson, workers=2), steps(6, lesson=lesson))


def test_a_resumed_stream_goes_on_where_it_was() -> None:
    assert_alike(steps(2, first=4), steps(6)[4:])


@pytest.mark.parametrize("num", [2, 3, 4])
def test_processes_share_every_batch(num: int) -> None:
    whole = steps(4)
    shares = [steps(4, num=num, number=number) for number in range(num)]
    for step, alone in enumerate(whole):
        parts = [part for share in shares for part in share[step].parts]
        told = sorted(index for part in parts for index in part.examples)
        assert told == sorted(alone.parts[0].examples)
        assert sum(part.weight for part in parts) == pytest.approx(1.0)
        sizes = [part.num_examples for part in parts]
        assert max(sizes) - min(sizes) <= 1


def rows_of(parts: tuple[Part, ...]) -> dict[tuple[int, int], tuple[list[int], list[int]]]:
    """By example and how often it came before: its ids and labels without padding."""
    found: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for part in parts:
        (rows,) = part.batch.rows
        for place, index in enumerate(part.examples):
            shown = rows.packed.attention_mask[place, : rows.packed.input_ids.shape[1]]
            ids = rows.packed.input_ids[place][shown].tolist()
            labels = rows.word_labels[place, : len(ids)].tolist()
            time = sum(key[0] == index for key in found)
            found[index, time] = (ids, labels)
    return found


def test_the_draws_of_an_example_are_the_same_in_any_process() -> None:
    whole = rows_of(steps(1)[0].parts)
    shared = tuple(part for number in (0, 1) for part in steps(1, num=2, number=number)[0].parts)
    assert rows_of(shared) == whole


def test_another_pass_draws_anew() -> None:
    config = replace(CONFIG, question_share=None, mask_probability=0.5, mismatch=0.0, wrong_first=0)
    lesson = lesson_of(config)
    num = len(lesson.examples)
    first, second = (
        rows_of(step.parts) for step in steps(2, lesson=lesson, batch_size=num, accumulation=1)
    )
    assert set(first) == set(second)
    assert sum(first[key] == second[key] for key in first) < num / 2


def test_an_extra_set_has_a_part_and_a_weight_of_its_own() -> None:
    config = Config(
        view=ViewSettings(max_regions=4), extra=Extra(sources=("web",), loss_weight=0.25, share=0.5)
    )
    library = make_library()
    said = library.annotations
    captions = tuple(
        replace(each, source="web") if place % 2 else each
        for place, each in enumerate(said.captions)
    )
    library = replace(library, annotations=replace(said, captions=captions))
    examples = TASK.examples(config, library, "train")
    lesson = replace(LESSON, config=config, examples=examples, phases=TASK.phases(config, examples))
    for step in steps(3, lesson=lesson, accumulation=2):
        weights = {False: 0.0, True: 0.0}
        for part in step.parts:
            kinds = {bool(examples.is_extra[index]) for index in part.examples}
            assert len(kinds) == 1
            weights[kinds.pop()] += part.weight
        assert weights == pytest.approx({False: 0.75, True: 0.25})
