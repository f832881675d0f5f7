"""What Hypothesis draws: records of every stored kind, and the words in them."""

import string

import numpy as np
from hypothesis import strategies as st

from storage.published.label_maps import LabelMap, label_map_of
from storage.records import (
    Annotations,
    CaptionAnnotation,
    ImageObjects,
    ImagePairAnnotation,
    ImageRegions,
    ImageTags,
    QuestionAnnotation,
)

WORDS = st.one_of(
    st.text(string.ascii_lowercase + " -", min_size=1, max_size=8),
    st.sampled_from(["狗", "红色的汽车", "[SEP]", "naïve", "😀", "a\tb", "\n", ""]),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_FLOATS = st.floats(-1000, 1000, width=32)


def image_regions(image_id: str, *, width: int = 3, dtype: str = "float16"):
    """Regions of one image: none to four of them, none to three attribute slots."""

    @st.composite
    def drawn(draw) -> ImageRegions:
        num, slots = draw(st.integers(0, 4)), draw(st.integers(0, 3))

        def floats(rows: int, columns: int) -> np.ndarray:
            values = draw(st.lists(_FLOATS, min_size=rows * columns, max_size=rows * columns))
            return np.array(values, dtype=np.float32).reshape(rows, columns)

        def names() -> tuple[str, ...]:
            return tuple(draw(st.lists(WORDS, min_size=num, max_size=num)))

        counts = draw(st.lists(st.integers(0, slots), min_size=num, max_size=num))
        return ImageRegions(
            image_id=image_id,
            content_hash=draw(TEXTS),
            height=draw(st.integers(1, 50_000)),
            width=draw(st.integers(1, 50_000)),
            boxes=floats(num, 4),
            features=floats(num, width).astype(dtype),
            class_ids=np.arange(1, num + 1, dtype=np.int16),
            confidences=floats(num, 1)[:, 0],
            attribute_ids=np.arange(num * slots, dtype=np.int16).reshape(num, slots),
            attribute_scores=floats(num, slots),
            class_names=names(),
            attribute_names=tuple(
                tuple(draw(st.lists(WORDS, min_size=count, max_size=count))) for count in counts
            ),
        )

    return drawn()


@st.composite
def many_image_regions(draw, *, dtype: str = "float16", max_images: int = 20) -> list[ImageRegions]:
    """Different images in any number; most of them small, since they are many."""
    num = draw(st.integers(0, max_images))
    kinds = [draw(image_regions("x", dtype=dtype)) for _ in range(min(num, 3))]
    return [
        ImageRegions(
            **{
                **{name: getattr(kinds[n % 3], name) for name in ImageRegions.__slots__},
                "image_id": f"photos/{n}",
            }
        )
        for n in range(num)
    ]


@st.composite
def image_tags(draw, image_id: str = "photos/1") -> ImageTags:
    tags = tuple(draw(st.lists(WORDS, max_size=4)))
    attributes = tuple(tuple(draw(st.lists(WORDS, max_size=3))) for _ in tags)
    return ImageTags(
        image_id=image_id,
        tags=tags,
        attributes=attributes,
        language=draw(st.sampled_from(["en", "zh"])),
    )


_SPLITS = st.sampled_from(["train", "val", "test"])
CAPTIONS = st.builds(
    CaptionAnnotation,
    image_id=TEXTS,
    caption_id=TEXTS,
    text=TEXTS,
    language=TEXTS,
    split=_SPLITS,
    source=TEXTS,
)
QUESTIONS = st.builds(
    QuestionAnnotation,
    image_id=TEXTS,
    question_id=TEXTS,
    question=TEXTS,
    answers=st.lists(TEXTS, max_size=3).map(tuple),
    language=TEXTS,
    split=_SPLITS,
    source=TEXTS,
    question_type=TEXTS,
    answer_type=TEXTS,
)
PAIRS = st.builds(
    ImagePairAnnotation,
    pair_id=TEXTS,
    left_image_id=TEXTS,
    right_image_id=TEXTS,
    sentence=TEXTS,
    is_true=st.booleans(),
    language=TEXTS,
    split=_SPLITS,
    source=TEXTS,
)


@st.composite
def image_objects(draw) -> ImageObjects:
    num = draw(st.integers(0, 3))
    boxes = draw(st.lists(_FLOATS, min_size=num * 4, max_size=num * 4))
    return ImageObjects(
        image_id=draw(TEXTS),
        height=draw(st.integers(1, 9_999)),
        width=draw(st.integers(1, 9_999)),
        boxes=np.array(boxes, dtype=np.float32).reshape(num, 4),
        class_names=tuple(draw(st.lists(WORDS, min_size=num, max_size=num))),
        attributes=tuple(tuple(draw(st.lists(WORDS, max_size=2))) for _ in range(num)),
        is_crowd=np.array(
            draw(st.lists(st.booleans(), min_size=num, max_size=num)), dtype=np.bool_
        ),
        split=draw(_SPLITS),
        source=draw(TEXTS),
    )


@st.composite
def annotations(draw) -> Annotations:
    return Annotations(
        captions=tuple(draw(st.lists(CAPTIONS, max_size=5))),
        questions=tuple(draw(st.lists(QUESTIONS, max_size=5))),
        pairs=tuple(draw(st.lists(PAIRS, max_size=3))),
        objects=tuple(draw(st.lists(image_objects(), max_size=3))),
    )


@st.composite
def label_maps(draw) -> LabelMap:
    def names() -> list[str]:
        return draw(st.lists(WORDS, unique=True, max_size=6))

    return label_map_of(names(), names())
