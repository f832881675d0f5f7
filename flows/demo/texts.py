"""Captions and questions, Chinese and English, about the rendered scenes.

Every class and every colour is one Chinese character, so one wordpiece of a character vocabulary.
A Chinese noun phrase reads: number, measure word, colour, pattern, size, noun
(one + liang + red + striped + big + car); `colour_phrases` takes such phrases apart again.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flows.demo.scenes import COLOURS, PATTERNS, Scene, SceneObject, generator
from flows.demo.shapes import CLASS_NAMES

CLASS_ZH: dict[str, str] = {
    "ball": "球",
    "car": "车",
    "tree": "树",
    "fish": "鱼",
    "umbrella": "伞",
    "star": "星",
    "boat": "船",
    "book": "书",
}
COLOUR_ZH: dict[str, str] = {
    "red": "红",
    "orange": "橙",
    "yellow": "黄",
    "green": "绿",
    "blue": "蓝",
    "purple": "紫",
    "black": "黑",
}
PATTERN_ZH: dict[str, str] = {"plain": "纯色", "striped": "条纹", "dotted": "圆点"}
SIZE_ZH: dict[str, str] = {"small": "小", "large": "大"}
NUMBER_ZH = ("零", "一", "二", "三", "四")
QUESTION_KINDS = ("colour", "pattern", "object", "exist", "relation", "count", "position")

_MEASURE_ZH = {
    "ball": "个",
    "car": "辆",
    "tree": "棵",
    "fish": "条",
    "umbrella": "把",
    "star": "颗",
    "boat": "艘",
    "book": "本",
}
_PLURAL_EN = {name: f"{name}s" for name in CLASS_NAMES} | {"fish": "fish"}
_CLASS_EN = {chinese: english for english, chinese in CLASS_ZH.items()}
_COLOUR_EN = {chinese: english for english, chinese in COLOUR_ZH.items()}
_PHRASE = re.compile(
    f"([{''.join(_COLOUR_EN)}])色?"
    f"(?:的|{'|'.join(PATTERN_ZH.values())}|{'|'.join(SIZE_ZH.values())})*"
    f"([{''.join(_CLASS_EN)}])"
)
_MIN_SIDEWAYS = 40
_NUM_CAPTIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneQuestion:
    """One question in both languages. kind: one of `QUESTION_KINDS`."""

    kind: str
    chinese: str
    answer_chinese: str
    english: str
    answer_english: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneTexts:
    """What is said about one scene; as many Chinese as English captions."""

    captions_chinese: tuple[str, ...]
    captions_english: tuple[str, ...]
    questions: tuple[SceneQuestion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourPhrase:
    """An object with its colour as a caption says it; start, end: place in the text."""

    start: int
    end: int
    colour: str
    class_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """One object as one caption names it."""

    chinese: str
    english: str


def scene_texts(scene: Scene) -> SceneTexts:
    """Say five things and ask five or six questions about a scene; nothing but the truth."""
    rng = generator(scene.seed, scene.split, scene.index, 2)
    captions = [_caption(rng, scene) for _ in range(_NUM_CAPTIONS)]
    return SceneTexts(
        captions_chinese=tuple(caption.chinese for caption in captions),
        captions_english=tuple(caption.english for caption in captions),
        questions=tuple(_questions(rng, scene)),
    )


def find_colour_phrases(text: str) -> list[ColourPhrase]:
    """Find the object-with-colour phrases of a Chinese caption without blanks."""
    return [
        ColourPhrase(
            start=found.start(),
            end=found.end(),
            colour=_COLOUR_EN[found[1]],
            class_name=_CLASS_EN[found[2]],
        )
        for found in _PHRASE.finditer(text)
    ]


def colour_phrases(caption: str) -> list[tuple[str, str]]:
    """Find the object-with-colour phrases of a Chinese caption, imperfect ones included.

    Returns:
        English (colour, class name) pairs in the order of the text; a colour without an object
        and an object without a colour give nothing.
    """
    text = re.sub(r"\s+", "", caption)
    return [(found.colour, found.class_name) for found in find_colour_phrases(text)]


def colour_precision(
    captions: Mapping[str, str], truth: Mapping[str, Iterable[tuple[str, str]]]
) -> float:
    """Share of the object-with-colour phrases that are true of their photo; 0 without any phrase.

    Args:
        captions: image_id -> one Chinese caption.
        truth: image_id -> English (colour, class name) pairs that the photo shows.

    Raises:
        KeyError: A captioned image has no truth.
    """
    num_true = num_phrases = 0
    for image_id, caption in captions.items():
        shown = set(truth[image_id])
        found = colour_phrases(caption)
        num_phrases += len(found)
        num_true += sum(phrase in shown for phrase in found)
    return num_true / num_phrases if num_phrases else 0.0


def _name(rng: np.random.Generator, placed: SceneObject) -> _Named:
    """Name an object: colour always, a pattern in 70 %, the size in 25 % of cases."""
    says_pattern = placed.pattern != "plain" and rng.random() < 0.7
    says_size = rng.random() < 0.25
    measure = _MEASURE_ZH[placed.class_name] if rng.random() < 0.85 else "个"
    chinese = f"一{measure}{COLOUR_ZH[placed.colour]}色"
    chinese += PATTERN_ZH[placed.pattern] if says_pattern else ""
    chinese += "的" + (SIZE_ZH[placed.size] if says_size else "") + CLASS_ZH[placed.class_name]
    english = [placed.size] if says_size else []
    english += [placed.colour]
    english += [placed.pattern] if says_pattern else []
    english += [placed.class_name]
    return _Named(chinese=chinese, english=f"{_article(english[0])} {' '.join(english)}")


def _caption(rng: np.random.Generator, scene: Scene) -> _Named:
    """One sentence on the two subjects, or on the first three objects."""
    left, right = sorted(scene.objects[:2], key=lambda placed: placed.centre_x)
    a, b = _name(rng, left), _name(rng, right)
    form = int(rng.choice(5, p=[0.4, 0.15, 0.2, 0.15, 0.1]))
    if form == 4 and len(scene.objects) > 2:
        third = _name(rng, scene.objects[2])
        return _Named(
            chinese=f"图里有{a.chinese}、{b.chinese}和{third.chinese}",
            english=f"the picture shows {a.english}, {b.english} and {third.english}",
        )
    if form == 0:
        return _Named(
            chinese=f"{a.chinese}在{b.chinese}左边",
            english=f"{a.english} is to the left of {b.english}",
        )
    if form == 1:
        return _Named(
            chinese=f"{b.chinese}在{a.chinese}右边",
            english=f"{b.english} is to the right of {a.english}",
        )
    if form == 2:
        return _Named(
            chinese=f"左边是{a.chinese}，右边是{b.chinese}",
            english=f"on the left is {a.english}, on the right is {b.english}",
        )
    return _Named(
        chinese=f"图中有{a.chinese}和{b.chinese}",
        english=f"there is {a.english} and {b.english} in the picture",
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _questions(rng: np.random.Generator, scene: Scene) -> list[SceneQuestion]:
    """Two colours, then one of each other kind that has exactly one right answer here."""
    classes = Counter(placed.class_name for placed in scene.objects)
    single = [placed for placed in scene.objects if classes[placed.class_name] == 1]
    questions: list[SceneQuestion] = []
    order = [single[i] for i in rng.permutation(len(single))]
    questions += [_ask_colour(rng, placed) for placed in order[:2]]
    if order:
        questions.append(_ask_pattern(rng, order[int(rng.integers(0, len(order)))]))
    colours = Counter(placed.colour for placed in scene.objects)
    alone = [placed for placed in scene.objects if colours[placed.colour] == 1]
    if alone:
        questions.append(_ask_object(rng, alone[int(rng.integers(0, len(alone)))]))
    questions.append(_ask_exist(rng, classes))
    kind = str(rng.choice(["relation", "count", "position"], p=[0.45, 0.35, 0.2]))
    questions += _ask_last(rng, kind, scene, single)
    return questions


def _worded(rng: np.random.Generator, *wordings: str) -> str:
    """One of several ways to ask the same."""
    return wordings[int(rng.integers(0, len(wordings)))]


def _ask_colour(rng: np.random.Generator, placed: SceneObject) -> SceneQuestion:
    noun = CLASS_ZH[placed.class_name]
    return SceneQuestion(
        kind="colour",
        chinese=_worded(rng, f"{noun}是什么颜色", f"{noun}的颜色是什么"),
        answer_chinese=COLOUR_ZH[placed.colour],
        english=f"What color is the {placed.class_name}?",
        answer_english=placed.colour,
    )


def _ask_pattern(rng: np.random.Generator, placed: SceneObject) -> SceneQuestion:
    noun = CLASS_ZH[placed.class_name]
    return SceneQuestion(
        kind="pattern",
        chinese=_worded(rng, f"{noun}是什么花纹", f"{noun}上有什么花纹"),
        answer_chinese=PATTERN_ZH[placed.pattern],
        english=f"What pattern does the {placed.class_name} have?",
        answer_english=placed.pattern,
    )


def _ask_object(rng: np.random.Generator, placed: SceneObject) -> SceneQuestion:
    colour = COLOUR_ZH[placed.colour]
    return SceneQuestion(
        kind="object",
        chinese=_worded(rng, f"什么是{colour}色的", f"哪个东西是{colour}色的"),
        answer_chinese=CLASS_ZH[placed.class_name],
        english=f"What is {placed.colour}?",
        answer_english=placed.class_name,
    )


def _ask_exist(rng: np.random.Generator, classes: Mapping[str, int]) -> SceneQuestion:
    is_there = bool(rng.random() < 0.5)
    candidates = [name for name in CLASS_NAMES if (name in classes) == is_there]
    name = candidates[int(rng.integers(0, len(candidates)))]
    return SceneQuestion(
        kind="exist",
        chinese=_worded(rng, f"有{CLASS_ZH[name]}吗", f"图中有没有{CLASS_ZH[name]}"),
        # one character each: the number of masks must not give the answer away
        answer_chinese="有" if is_there else "无",
        english=f"Is there {_article(name)} {name}?",
        answer_english="yes" if is_there else "no",
    )


def _ask_last(
    rng: np.random.Generator, kind: str, scene: Scene, single: Sequence[SceneObject]
) -> list[SceneQuestion]:
    """A relation, count or position question; [] where the scene leaves it open."""
    if kind == "count":
        return [_ask_count(rng, scene)]
    if kind == "position":
        aside = [p for p in single if abs(p.centre_x - 159.5) >= _MIN_SIDEWAYS]
        return [_ask_position(aside[int(rng.integers(0, len(aside)))])] if aside else []
    pairs = [
        (a, b)
        for a in single
        for b in single
        if a is not b and abs(a.centre_x - b.centre_x) >= _MIN_SIDEWAYS
    ]
    return [_ask_relation(*pairs[int(rng.integers(0, len(pairs)))])] if pairs else []


def _ask_relation(placed: SceneObject, anchor: SceneObject) -> SceneQuestion:
    is_left = placed.centre_x < anchor.centre_x
    return SceneQuestion(
        kind="relation",
        chinese=f"{CLASS_ZH[placed.class_name]}在{CLASS_ZH[anchor.class_name]}的哪边",
        answer_chinese="左" if is_left else "右",
        english=(
            f"Is the {placed.class_name} to the left or to the right of the {anchor.class_name}?"
        ),
        answer_english="left" if is_left else "right",
    )


def _ask_position(placed: SceneObject) -> SceneQuestion:
    is_left = placed.centre_x < 159.5
    return SceneQuestion(
        kind="position",
        chinese=f"{CLASS_ZH[placed.class_name]}在图的哪边",
        answer_chinese="左" if is_left else "右",
        english=f"On which side of the picture is the {placed.class_name}?",
        answer_english="left" if is_left else "right",
    )


def _ask_count(rng: np.random.Generator, scene: Scene) -> SceneQuestion:
    """How many of one kind (the repeated kind, if there is one) or how many things in all."""
    classes = Counter(placed.class_name for placed in scene.objects)
    (name, num), *_ = classes.most_common(1)
    if num == 1 and rng.random() < 0.7:
        total = len(scene.objects)
        return SceneQuestion(
            kind="count",
            chinese="一共有几个物体",
            answer_chinese=NUMBER_ZH[total],
            english="How many things are there?",
            answer_english=str(total),
        )
    if num == 1:
        name = list(classes)[int(rng.integers(0, len(classes)))]
    return SceneQuestion(
        kind="count",
        chinese=f"有几{_MEASURE_ZH[name]}{CLASS_ZH[name]}",
        answer_chinese=NUMBER_ZH[num],
        english=f"How many {_PLURAL_EN[name]} are there?",
        answer_english=str(num),
    )


def chinese_words() -> dict[str, str]:
    """English -> Chinese of every class and attribute name, as the texts use them (a new dict)."""
    colours = {name: f"{COLOUR_ZH[name]}色" for name in COLOURS}
    patterns = {name: PATTERN_ZH[name] for name in PATTERNS}
    return dict(CLASS_ZH) | colours | patterns | dict(SIZE_ZH)
