"""Samples a second: regions from shards against a table of base64, and the whole loader.

Regions: by image, in the order of the shuffled windows, ready as numpy; the table is the layout of
the Oscar family (`benchmarks.store`), the shards are ours with their default float16.
Whole loader: reading, wrong texts, masking and collating of pretraining, batch 32, captions with
the tags of 50 regions, one process; against the time of the update of `benchmarks.pretrain`. Files
lie in the page cache. The shuffle is judged by how often two neighbours of an epoch, and two
examples of a batch, come from the same row group, against a uniform permutation. About a minute.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, ratio, side_by_side, timing
from benchmarks.pretraining.real_texts import make_batch, material
from benchmarks.store import NUM_REGIONS, Base64Table, write_both
from oscar_core.kept_memory import keep_freed_memory
from oscar_core.task import Group, Knowledge, Phase, load_task
from oscar_core.tasks.pretraining.records import Config
from oscar_core.training.config import TrainingConfig
from oscar_core.training.lesson import Lesson
from oscar_core.training.loader import batches
from oscar_core.training.order import Order
from storage.library import Library
from storage.records import Annotations, CaptionAnnotation, ImageTags
from storage.region_shards import RegionReader

BATCH = 32
NUM_IMAGES = 192
NUM_RUNS = 5
NUM_EXAMPLES, NUM_PLACES, WINDOW = 200_000, 2_000, 64


def measure() -> list[Figure]:
    """Samples a second and ratios."""
    keep_freed_memory()
    found = material()
    with tempfile.TemporaryDirectory() as name:
        write_both(Path(name), NUM_IMAGES)
        table = Base64Table(Path(name) / "tsv")
        narrow, wide = (RegionReader(Path(name) / kind) for kind in ("float16", "float32"))
        ids = _in_windows(narrow)
        seconds = side_by_side(
            {
                "table": lambda: [
                    (table.objects(image_id), table.features(image_id)) for image_id in ids
                ],
                "shards": lambda: [narrow[image_id].features for image_id in ids],
                "float32": lambda: [wide[image_id].features for image_id in ids],
            },
            n=NUM_RUNS,
        )
        captions = [text.first for text in found.captions[: len(ids)]]
        lesson = _lesson(narrow, captions, found.tags, Knowledge(tokenizer=found.tokenizer))
        whole = [_loaded(lesson) for _ in range(NUM_RUNS)]
    step = _step_seconds()
    a_second = statistics.median(whole)
    return [
        ratio("loader.shards_over_tsv", seconds["table"], seconds["shards"]),
        ratio("loader.shards_over_tsv, float32 in both", seconds["table"], seconds["float32"]),
        *(
            _rate(f"loader.regions_per_second, {name}", [len(ids) / each for each in times])
            for name, times in seconds.items()
        ),
        _rate("loader.samples_per_second", whole),
        timing("loader.training_step", [step]),
        Figure(
            name="loader.samples_over_training_step",
            value=a_second * step / BATCH,
            unit="x",
            n=NUM_RUNS,
            spread=(max(whole) - min(whole)) * step / BATCH,
        ),
        *_shuffle(),
    ]


def _in_windows(reader: RegionReader) -> list[str]:
    """All images, row groups shuffled, then the images of each."""
    draw = np.random.default_rng(0)
    groups: dict[int, list[str]] = {}
    for image_id in reader:
        groups.setdefault(reader.group_of(image_id), []).append(image_id)
    order = [groups[place] for place in draw.permutation(sorted(groups))]
    return [group[i] for group in order for i in draw.permutation(len(group))]


def _lesson(
    reader: RegionReader, captions: list[str], words: tuple[str, ...], knowledge: Knowledge
) -> Lesson:
    """Pretraining on one caption an image."""
    draw = np.random.default_rng(1)
    tags = {
        image_id: ImageTags(
            image_id=image_id,
            tags=tuple(words[i] for i in draw.integers(0, len(words), NUM_REGIONS)),
            attributes=((),) * NUM_REGIONS,
            language="zh",
        )
        for image_id in reader
    }
    said = tuple(
        CaptionAnnotation(
            image_id=image_id,
            caption_id=image_id,
            text=text,
            language="zh",
            split="train",
            source="coco_captions",
        )
        for image_id, text in zip(reader, captions, strict=False)
    )
    annotations = Annotations(captions=said, questions=(), pairs=(), objects=())
    task, config = load_task("pretraining"), Config()
    library = Library(regions=reader, tags=tags, annotations=annotations)
    examples = task.examples(config, library, "train")
    return Lesson(
        task=task,
        config=config,
        knowledge=knowledge,
        examples=examples,
        phases=task.phases(config, examples),
        identity="benchmark",
    )


def _loaded(lesson: Lesson) -> float:
    """Samples a second over all images once."""
    training = TrainingConfig(batch_size=BATCH)
    order = Order(lesson.phases, batch_size=BATCH, seed=1)
    last = len(lesson.phases) - 1
    found = batches(lesson, training, order, phase=last, first_step=0, num=1, number=0)
    num_steps = NUM_IMAGES // BATCH
    start = time.perf_counter()
    num = sum(part.num_examples for step in islice(found, num_steps) for part in step.parts)
    return num / (time.perf_counter() - start)


def _step_seconds() -> float:
    """One update of `benchmarks.pretrain`, after one that is not timed."""
    from benchmarks.pretrain import BATCH as NUM_ROWS
    from benchmarks.pretrain import Ours

    ours, batch = Ours(), make_batch(material(), NUM_ROWS)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ours.step(batch, keeps_memory=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _shuffle() -> Iterator[Figure]:
    """How well examples of the same row group are spread, a hundred in each."""
    places = np.repeat(np.arange(NUM_PLACES, dtype=np.int32), NUM_EXAMPLES // NUM_PLACES)
    draw = np.random.default_rng(3)
    orders = {
        f"windows of {WINDOW} row groups": _order(places, WINDOW),
        "uniform": places[draw.permutation(len(places))],
    }
    for name, found in orders.items():
        together = float((found[1:] == found[:-1]).mean())
        yield _share(f"loader.neighbours_of_one_row_group, {name}", together)
        rows = found[: len(found) // BATCH * BATCH].reshape(-1, BATCH)
        rows = np.sort(rows, axis=1)
        repeated = float((rows[:, 1:] == rows[:, :-1]).mean())
        yield _share(f"loader.batch_of_one_row_group, {name}", repeated)


def _order(places: NDArray[np.int32], window: int) -> NDArray[np.int32]:
    """Places of one epoch in the order of training."""
    group = Group(indices=np.arange(len(places)), places=places, window=window)
    phase = Phase(name="mixture", groups=(group,))
    order = Order((phase,), batch_size=BATCH, seed=1)
    steps = range(len(places) // BATCH)
    return places[np.concatenate([order.batch(0, step).indices for step in steps])]


def _share(name: str, value: float) -> Figure:
    return Figure(name=name, value=value, unit="of all", n=1, spread=0.0)


def _rate(name: str, rates: list[float]) -> Figure:
    value, spread = statistics.median(rates), max(rates) - min(rates)
    return Figure(name=name, value=value, unit="/s", n=len(rates), spread=spread)
