"""Writes the embedded demo data as if it had been downloaded: photos and published layouts.

images/{split}/100000000000.jpg
annotations/instances_{split}.json               COCO
annotations/captions_{en,zh}_{split}.json        COCO captions
annotations/v2_OpenEnded_scenes_{split}_questions.json, v2_scenes_{split}_annotations.json
annotations/{split}_balanced_questions.json      GQA
annotations/visual_genome/{split}/{objects,attributes,image_data}.json
labelmap.json (VinVL)   dictionary_zh.json (Mengzi)   truth.json (ours)
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from flows.demo import layouts
from flows.demo.layouts import Pictured
from flows.demo.scenes import SPLITS, make_scene, render
from flows.demo.texts import chinese_words, scene_texts
from flows.demo.truth import true_image, write_truth
from storage.artifacts import atomic_write_text

NAMESPACE = "scenes"
"""First part of the image ids of the demo: `scenes/100000000000`."""

_FIRST_NUMBER = {"train": 100_000_000_000, "val": 200_000_000_000, "test": 300_000_000_000}
_CHUNK = 16
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFacts:
    """What was written, counted.

    num_images:      split -> images
    num_held_out:    test images that show a class in a colour never seen in training
    majority_answer: the most common answer of the training questions
    majority_share:  share of the test questions (training, if there are none) it answers
    kinds:           kind of question -> number, all splits
    """

    num_images: dict[str, int]
    num_objects: int
    num_captions: int
    num_questions: int
    num_held_out: int
    majority_answer: str
    majority_share: float
    kinds: dict[str, int]


def image_number(split: str, index: int) -> int:
    """The twelve-digit number that names a picture in every file; index from 0."""
    return _FIRST_NUMBER[split] + index


def write_demo(
    folder: Path,
    *,
    seed: int,
    num_train: int,
    num_val: int,
    num_test: int,
    workers: int = 2,
    on_image: Callable[[int, int], None] | None = None,
) -> DemoFacts:
    """Render every scene and write all files; equal arguments give equal bytes.

    Args:
        folder: Made if absent; files of an earlier call are overwritten.
        seed: Of everything random.
        num_train: Pictures of the training split.
        num_val: Pictures of the validation split.
        num_test: Pictures of the test split.
        workers: Processes that render; 1 renders in this process.
        on_image: Told (done, total) as pictures are finished.
    """
    sizes = {"train": num_train, "val": num_val, "test": num_test}
    jobs = [(split, index) for split in SPLITS for index in range(sizes[split])]
    for split in SPLITS:
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    pictures = []
    for picture in _drawn(jobs, partial(_draw, folder, seed), workers):
        pictures.append(picture)
        if on_image is not None:
            on_image(len(pictures), len(jobs))
    by_split = {split: [p for p in pictures if p.scene.split == split] for split in SPLITS}
    for split, chosen in by_split.items():
        _write_annotations(folder / "annotations", split, chosen)
    _write_json(folder / "labelmap.json", layouts.label_map(by_split["train"]))
    _write_json(folder / "dictionary_zh.json", chinese_words())
    images = [true_image(f"{NAMESPACE}/{p.number:012d}", p.scene) for p in pictures]
    write_truth(folder / "truth.json", images)
    return _facts(by_split, sum(image.shows_held_out for image in images))


def _drawn(
    jobs: Sequence[tuple[str, int]], draw: Callable[[tuple[str, int]], Pictured], workers: int
) -> Iterator[Pictured]:
    if workers <= 1:
        yield from map(draw, jobs)
        return
    # Fresh processes: a fork of a process with threads may lock up.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, jobs, chunksize=_CHUNK)


def _draw(folder: Path, seed: int, job: tuple[str, int]) -> Pictured:
    """Render one scene to its file."""
    split, index = job
    scene = make_scene(seed, split, index)
    picture = Pictured(number=image_number(split, index), scene=scene, texts=scene_texts(scene))
    path = folder / "images" / split / picture.file_name
    # 4:4:4: halved colour resolution would smear stripes and dots.
    Image.fromarray(render(scene)).save(path, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return picture


def _write_annotations(folder: Path, split: str, pictures: Sequence[Pictured]) -> None:
    contents: dict[str, object] = {
        f"instances_{split}": layouts.coco_instances(pictures),
        f"captions_en_{split}": layouts.coco_captions(pictures, "en"),
        f"captions_zh_{split}": layouts.coco_captions(pictures, "zh"),
        f"v2_OpenEnded_scenes_{split}_questions": layouts.vqa_questions(pictures, split),
        f"v2_scenes_{split}_annotations": layouts.vqa_annotations(pictures, split),
        f"{split}_balanced_questions": layouts.gqa_questions(pictures),
    }
    for stem, rows in layouts.visual_genome(pictures).items():
        contents[f"visual_genome/{split}/{stem}"] = rows
    for stem, content in contents.items():
        _write_json(folder / f"{stem}.json", content)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(content, ensure_ascii=False))


def _facts(by_split: dict[str, list[Pictured]], num_held_out: int) -> DemoFacts:
    answers = {
        split: [asked.answer_chinese for p in pictures for asked in p.texts.questions]
        for split, pictures in by_split.items()
    }
    pictures = [picture for chosen in by_split.values() for picture in chosen]
    judged = answers["test"] or answers["train"]
    common = Counter(answers["train"] or judged).most_common(1)
    majority = common[0][0] if common else ""
    return DemoFacts(
        num_images={split: len(chosen) for split, chosen in by_split.items()},
        num_objects=sum(len(p.scene.objects) for p in pictures),
        num_captions=sum(
            len(p.texts.captions_chinese) + len(p.texts.captions_english) for p in pictures
        ),
        num_questions=sum(len(p.texts.questions) for p in pictures),
        num_held_out=num_held_out,
        majority_answer=majority,
        majority_share=judged.count(majority) / len(judged) if judged else 0.0,
        kinds=dict(Counter(asked.kind for p in pictures for asked in p.texts.questions)),
    )
