"""How long the rows of pretraining are where the texts are real.

Texts: every caption and question of the corpora of `flows/configs/real_photos.yaml`, as often as
they are there. Tags: the words of the regions, names of COCO's boxes in Chinese as often as they
are there; with 35 places in all they are cut in nearly every caption row, whatever they say.
Regions: as the run of `real_photos.yaml` shows them (its `min_confidence` 0.05, up to the published
50): the counts below are of that run's 621 photos, since detecting again would take minutes.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import flows
from flows.config import read_config
from flows.pipeline import plan_of
from flows.readers import call_reader
from oscar_core.losses import NOT_A_TARGET
from oscar_core.packing import EncoderInput, Layout, PackedBatch, pack
from oscar_core.tokens import Tokenizer, read_vocabulary
from translation.lexicon import own_lexicon

MAX_TEXT, MAX_REGIONS = 35, 50
"""The published room of a row."""
PHOTOS_BY_REGIONS = (
    (5, 1), (8, 1), (9, 4), (10, 3), (11, 6), (12, 8), (13, 6), (14, 5), (15, 13), (16, 12),
    (17, 19), (18, 18), (19, 32), (20, 29), (21, 31), (22, 29), (23, 39), (24, 41), (25, 43),
    (26, 27), (27, 30), (28, 33), (29, 26), (30, 21), (31, 17), (32, 20), (33, 18), (34, 20),
    (35, 16), (36, 47), (37, 1), (38, 1), (39, 1), (42, 2), (45, 1),
)  # fmt: skip
"""Regions shown -> photos of that run; mean 25.1. All it keeps, shown or not, are 36."""
MASKED, BY_MASK, BY_WORD = 0.15, 0.8, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A caption, or a question with its answer."""

    first: str
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What rows are made of.

    captions, questions: of the real photos
    tags: Chinese names of objects, as often as they are there
    """

    captions: tuple[Text, ...]
    questions: tuple[Text, ...]
    tags: tuple[str, ...]
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of pretraining.

    packed:  B rows of T and R positions
    words:   (B, S) int64, -1 where nothing is masked
    matches: (B,) int64
    """

    packed: PackedBatch
    words: torch.Tensor
    matches: torch.Tensor

    @property
    def visible(self) -> float:
        """Share of the positions that are not padding."""
        return float(self.packed.attention_mask.float().mean())


def material() -> Material:
    """Read the real corpora; `OSCAR_DATA_DIR` names their folder.

    Raises:
        ConfigError: They are not there.
    """
    os.environ.setdefault("OSCAR_DATA_DIR", str(_data()))
    config = read_config(Path(flows.__file__).parent / "configs" / "real_photos.yaml")
    step = {each.name: each for each in plan_of(config).steps}["collect_annotations"]
    captions: list[Text] = []
    questions: list[Text] = []
    names: list[str] = []
    for number, call in enumerate(step.config.calls):  # type: ignore[union-attr]  # a step's config is of its stage
        files = {name: Path(str(step.inputs[f"files:{number}.{name}"])) for name in call.file_names}
        said = call_reader(call, files)
        captions += [Text(first=each.text) for each in said.captions]
        for each in said.questions:
            (answer, _), *_ = Counter(each.answers).most_common(1)
            questions.append(Text(first=each.question, answer=answer))
        names += [name for each in said.objects for name in each.class_names]
    chinese = own_lexicon().words("object")
    return Material(
        captions=tuple(captions),
        questions=tuple(questions),
        tags=tuple(chinese.get(name, name) for name in names),
        tokenizer=read_vocabulary(_data() / "vocab" / "bert-base-chinese-vocab.txt"),
    )


def make_batch(
    found: Material,
    num: int,
    *,
    seed: int = 0,
    num_regions: int | None = None,
    question_share: float | None = None,
    width: int = 2054,
) -> Batch:
    """Draw rows.

    Args:
        found: The material.
        num: Rows.
        seed: Of the draw.
        num_regions: Of every image; None: as in `PHOTOS_BY_REGIONS`.
        question_share: Of the rows; None: as in the corpora.
        width: Of region inputs.
    """
    draw = np.random.default_rng(seed)
    inputs = []
    for text in _drawn(found, num, question_share, draw):
        regions = num_regions or _regions_of(draw)
        tags = " ".join(found.tags[i] for i in draw.integers(0, len(found.tags), regions))
        inputs.append(
            EncoderInput(
                text_a=text.first,
                text_b=tags if text.answer is None else text.answer,
                regions=draw.normal(size=(regions, width)).astype(np.float32),
            )
        )
    packed = pack(inputs, found.tokenizer, Layout(max_text=MAX_TEXT, max_regions=MAX_REGIONS))
    words = _mask(packed, found.tokenizer, draw)
    matches = torch.from_numpy(draw.choice(3, num, p=[0.5, 0.25, 0.25]))
    return Batch(packed=packed, words=words, matches=matches)


def _drawn(
    found: Material, num: int, question_share: float | None, draw: np.random.Generator
) -> Sequence[Text]:
    if question_share is None:
        pool = (*found.captions, *found.questions)
        return [pool[i] for i in draw.integers(0, len(pool), num)]
    asked = round(num * question_share)
    return [
        *(found.captions[i] for i in draw.integers(0, len(found.captions), num - asked)),
        *(found.questions[i] for i in draw.integers(0, len(found.questions), asked)),
    ]


def _regions_of(draw: np.random.Generator) -> int:
    counts, photos = np.array(PHOTOS_BY_REGIONS).T
    return int(draw.choice(counts, p=photos / photos.sum()))


def _mask(packed: PackedBatch, tokenizer: Tokenizer, draw: np.random.Generator) -> torch.Tensor:
    """Hide words in place by the published shares; their ids at (B, S), -1 elsewhere."""
    ids = packed.input_ids.numpy()
    labels = np.full(packed.attention_mask.shape, NOT_A_TARGET, dtype=np.int64)
    special = [tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id]
    chosen = (draw.random(ids.shape) < MASKED) & ~np.isin(ids, special)
    labels[:, : ids.shape[1]][chosen] = ids[chosen]
    dice = draw.random(ids.shape)
    ids[chosen & (dice < BY_MASK)] = tokenizer.mask_id
    other = chosen & (dice >= BY_MASK) & (dice < BY_WORD)
    ids[other] = draw.integers(0, len(tokenizer), int(other.sum()))
    return torch.from_numpy(labels)


def _data() -> Path:
    named = os.environ.get("OSCAR_DATA_DIR")
    return Path(named) if named else Path(flows.__file__).parents[2] / "shared" / "data"
