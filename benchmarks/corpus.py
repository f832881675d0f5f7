"""Private memory of each rank, and seconds to open, for a corpus of 3.7 million pairs.

As many texts about as many photos as the published mixture has: 2,502,000 questions with answers
and 1,198,000 captions with tags about 230,000 photos, in the folders of a run: annotations, tags
and region shards (features of width 1: their size does not enter). Two ranks open them at the same
time, draw batches of 1024 and read texts; private is what a process shares with no other
(`/proc/self/smaps_rollup`). "added" is what the corpus costs, "all" counts Python, torch and
transformers, too. About 2 minutes, most of them to write the corpus.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.figure import Figure
from storage.manifest import ShardEntry
from storage.mapped import write_batches
from storage.places import Place
from storage.records import ImageRegions, ImageTags
from storage.region_slices import RegionSettings, write_regions
from storage.schemas import SCHEMAS
from storage.shards import finish
from storage.tag_shards import write_tags

NUM_QUESTIONS, NUM_CAPTIONS, NUM_PHOTOS = 2_502_000, 1_198_000, 230_000
NUM_RANKS = 2
NUM_TAGS = 12
ROWS = 50_000
WORDS = np.array(
    [
        "一",
        "个",
        "男人",
        "女人",
        "在",
        "街道",
        "上",
        "骑",
        "自行车",
        "红色",
        "的",
        "汽车",
        "旁边",
        "什么",
        "颜色",
        "有",
        "多少",
        "狗",
        "草地",
        "窗户",
    ]
)


def measure() -> list[Figure]:
    """Bytes and seconds, the worst of the ranks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        size = sum(file.stat().st_size for file in (folder / "annotations").iterdir())
        found = _opened(folder)
    pairs = NUM_QUESTIONS + NUM_CAPTIONS
    return [
        _worst("corpus.private_added_per_rank", [each["added"] / 1e6 for each in found], "MB"),
        _worst("corpus.private_all_per_rank", [each["all"] / 1e6 for each in found], "MB"),
        _worst("corpus.seconds_to_open", [each["seconds"] for each in found], "s"),
        _worst("corpus.pairs", [float(pairs)], "pairs"),
        _worst("corpus.texts_on_disk", [size / 1e6], "MB"),
    ]


def write_corpus(folder: Path) -> None:
    """All that a training reads."""
    place = Place(folder / "annotations")
    entries: list[ShardEntry] = []
    for kind, num in (("captions", NUM_CAPTIONS), ("questions", NUM_QUESTIONS)):
        entries += write_batches(place, kind, _batches(kind, num))
    finish(place, "annotations", {}, entries)
    write_tags(folder / "tags", _tags())
    settings = RegionSettings(detector="none", feature_width=1)
    write_regions(folder / "regions", _regions(), settings)


def _batches(kind: str, num: int) -> Iterator[pa.RecordBatch]:
    """Texts of 8 to 16 words, each said once."""
    draw = np.random.default_rng(len(kind))
    schema = SCHEMAS[kind]
    for start in range(0, num, ROWS):
        size = min(ROWS, num - start)
        texts = [" ".join(words) for words in WORDS[draw.integers(0, len(WORDS), (size, 12))]]
        columns = {
            "image_id": [_photo(i) for i in draw.integers(0, NUM_PHOTOS, size)],
            "caption_id": [str(start + i) for i in range(size)],
            "question_id": [str(start + i) for i in range(size)],
            "text": texts,
            "question": texts,
            "answers": [[word] for word in WORDS[draw.integers(0, len(WORDS), size)]],
            "language": ["zh"] * size,
            "split": ["train"] * size,
            "source": ["coco_captions" if kind == "captions" else "gqa"] * size,
        }
        arrays = [pa.array(columns.get(field.name, [""] * size), field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _photo(number: int) -> str:
    return f"coco/{number:012d}"


def _tags() -> Iterator[ImageTags]:
    draw = np.random.default_rng(2)
    for number in range(NUM_PHOTOS):
        words = WORDS[draw.integers(0, len(WORDS), NUM_TAGS)]
        yield ImageTags(
            image_id=_photo(number),
            tags=tuple(map(str, words)),
            attributes=((),) * NUM_TAGS,
            language="zh",
        )


def _regions() -> Iterator[ImageRegions]:
    boxes = np.array([[0, 0, 9, 9]], dtype=np.float32)
    ones = np.ones(1, dtype=np.float32)
    for number in range(NUM_PHOTOS):
        yield ImageRegions(
            image_id=_photo(number),
            content_hash=f"{number:064x}",
            height=10,
            width=10,
            boxes=boxes,
            features=np.zeros((1, 1), dtype=np.float16),
            class_ids=np.ones(1, dtype=np.int16),
            confidences=ones,
            attribute_ids=np.zeros((1, 1), dtype=np.int16),
            attribute_scores=np.zeros((1, 1), dtype=np.float32),
            class_names=("dog",),
            attribute_names=((),),
        )


def _opened(folder: Path) -> list[dict[str, float]]:
    """What each of the ranks says of itself while all of them have the corpus open."""
    command = [sys.executable, "-m", "benchmarks.pretraining.rank", str(folder), str(NUM_RANKS)]
    ranks = [
        subprocess.Popen(
            [*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(NUM_RANKS)
    ]
    opened = [_line(each) for each in ranks]
    assert all(each["opened"] == NUM_QUESTIONS + NUM_CAPTIONS for each in opened)
    found = [_asked(each) for each in ranks]
    for each in ranks:
        each.communicate("\n")
    return found


def _asked(rank: "subprocess.Popen[str]") -> dict[str, float]:
    assert rank.stdin is not None
    rank.stdin.write("\n")
    rank.stdin.flush()
    return _line(rank)


def _line(rank: "subprocess.Popen[str]") -> dict[str, float]:
    assert rank.stdout is not None
    line = rank.stdout.readline()
    if not line:
        raise RuntimeError(f"rank ended with status {rank.wait()}")
    found: dict[str, float] = json.loads(line)
    return found


def _worst(name: str, values: list[float], unit: str) -> Figure:
    worst = max(values)
    return Figure(name=name, value=worst, unit=unit, n=len(values), spread=worst - min(values))
