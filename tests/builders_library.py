"""A small library whose images can be read off their features, for what learns and scores."""

from collections.abc import Sequence

import numpy as np

from oscar_core.config import EncoderSettings
from oscar_core.training.config import TrainingConfig
from storage.library import Library
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageRegions,
    ImageTags,
    QuestionAnnotation,
)

CLASSES = ("球", "车", "树")
COLOURS = ("红", "蓝", "绿")
WIDTH = len(CLASSES) + len(COLOURS)
"""Of the features: class, then colour, one-hot."""

TINY = EncoderSettings(
    hidden_size=24,
    num_layers=1,
    num_heads=2,
    intermediate_size=48,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    max_positions=40,
    initializer_range=0.2,
)


def tiny_training(**changes: object) -> TrainingConfig:
    """A short, fast training."""
    chosen: dict[str, object] = {
        "steps": 6,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "betas": (0.9, 0.98),
        "schedule": "constant",
        "standardise_regions": True,
        "checkpoint_every": 2,
        "seed": 3,
    }
    return TrainingConfig(**(chosen | changes))


def make_regions(image_id: str, shown: Sequence[tuple[str, str]]) -> ImageRegions:
    """Regions of (colour, class) pairs from left to right, the first most confident."""
    features = np.zeros((len(shown), WIDTH), dtype=np.float16)
    for row, (colour, name) in zip(features, shown, strict=True):
        row[CLASSES.index(name)] = row[len(CLASSES) + COLOURS.index(colour)] = 1
    left = np.arange(len(shown)) * 20.0
    boxes = np.stack([left, left * 0 + 5, left + 15, left * 0 + 25], axis=1)
    return ImageRegions(
        image_id=image_id,
        content_hash="0" * 64,
        height=40,
        width=60,
        boxes=boxes.astype(np.float32).reshape(-1, 4),
        features=features,
        class_ids=np.array([1 + CLASSES.index(name) for _, name in shown], dtype=np.int16),
        confidences=np.linspace(0.9, 0.3, len(shown), dtype=np.float32),
        attribute_ids=np.ones((len(shown), 1), dtype=np.int16),
        attribute_scores=np.ones((len(shown), 1), dtype=np.float32),
        class_names=tuple(name for _, name in shown),
        attribute_names=tuple((colour,) for colour, _ in shown),
    )


def make_tags(image_id: str, shown: Sequence[tuple[str, str]]) -> ImageTags:
    return ImageTags(
        image_id=image_id,
        tags=tuple(name for _, name in shown),
        attributes=tuple((colour,) for colour, _ in shown),
        language="zh",
    )


def make_library(
    *, num_train: int = 18, num_test: int = 4, num_regions: int = 2, seed: int = 0
) -> Library:
    """Images of distinct classes in drawn colours; a caption and a colour question an object."""
    rng = np.random.default_rng(seed)
    regions, tags, captions, questions = {}, {}, [], []
    for number in range(num_train + num_test):
        split = "train" if number < num_train else "test"
        image_id = f"blocks/{number:03d}"
        names = [CLASSES[i] for i in rng.permutation(len(CLASSES))[:num_regions]]
        shown = [(str(rng.choice(COLOURS)), name) for name in names]
        regions[image_id] = make_regions(image_id, shown)
        tags[image_id] = make_tags(image_id, shown)
        captions.append(
            CaptionAnnotation(
                image_id=image_id,
                caption_id=f"{image_id}-0",
                text="和".join(f"{colour}色的{name}" for colour, name in shown),
                language="zh",
                split=split,
                source="blocks",
            )
        )
        for place, (colour, name) in enumerate(shown):
            questions.append(
                QuestionAnnotation(
                    image_id=image_id,
                    question_id=f"{image_id}-{place}",
                    question=f"{name}是什么颜色",
                    answers=(colour,) * 10,
                    language="zh",
                    split=split,
                    source="blocks",
                    question_type="colour",
                )
            )
    return Library(
        regions=regions,
        tags=tags,
        annotations=Annotations(captions=tuple(captions), questions=tuple(questions)),
    )
