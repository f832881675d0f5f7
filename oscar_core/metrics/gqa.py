"""The GQA measures: accuracy, consistency, validity, plausibility, distribution, grounding.

All loops run over the balanced questions; answers are compared exactly, nothing is normalised.
Source: the GQA authors' eval.py (gqadataset.org).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Required, TypedDict, TypeVar

from oscar_core.metrics.errors import (
    CoverageError,
    MetricFileError,
    MetricInputError,
    name_ids,
)

COMMON_CHOICES = ("color", "material", "shape")
"""Allowed answers where the detailed type contains "Common"; eval.py:updateValidity."""

STEPS_NOT_COUNTED = ("exist", "query: name", "choose name")

K = TypeVar("K", str, int)

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as fractions of width and height."""


class Question(TypedDict, total=False):
    """One entry of the questions file, by question id."""

    question: Required[str]
    answer: Required[str]
    imageId: Required[str]
    isBalanced: Required[bool]
    types: Required[Mapping[str, str | None]]
    groups: Required[Mapping[str, str | None]]
    entailed: Sequence[str]
    semantic: Sequence[Mapping[str, object]]
    annotations: Mapping[str, Mapping[str, str]]


class SceneObject(TypedDict):
    """A box in pixels."""

    x: float
    y: float
    w: float
    h: float


class Scene(TypedDict):
    """One entry of the scene graph file, by image id; sizes in pixels."""

    width: float
    height: float
    objects: Mapping[str, SceneObject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """What grounding needs.

    scenes: image id -> scene
    maps:   question id -> (S, S) weights, first index along x; or, with `has_boxes`, rows of
            x0, y0, x1, y1, weight
    """

    scenes: Mapping[str, Scene]
    maps: Mapping[str, Sequence[Sequence[float]]]
    has_boxes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GqaScores:
    """Fractions; `distribution` is lower-better and no fraction.

    metrics:    binary, open, accuracy, validity, plausibility, distribution, and, where asked for,
                consistency and grounding; distribution is absent where no question has a group
    by_*:       name -> (accuracy, number of questions)
    """

    metrics: dict[str, float]
    by_structural_type: dict[str, tuple[float, int]]
    by_semantic_type: dict[str, tuple[float, int]]
    by_num_steps: dict[int, tuple[float, int]]
    by_num_words: dict[int, tuple[float, int]]


def gqa_scores(
    questions: Mapping[str, Question],
    predictions: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    *,
    with_consistency: bool = False,
    attention: Attention | None = None,
) -> GqaScores:
    """Score answers to the balanced questions.

    Args:
        questions: The questions file.
        predictions: Answer by question id: all balanced ones, and with consistency all that are
            entailed too.
        choices: The choices file with `valid` and `plausible`; without it both measures are 0,
            as newer copies of eval.py print for test-dev.
        with_consistency: Compute consistency.
        attention: Compute grounding.

    Raises:
        CoverageError: A question that is needed has no prediction, choices, scene or map.
        MetricInputError: No balanced question.
    """
    balanced = {key: question for key, question in questions.items() if question["isBalanced"]}
    if not balanced:
        raise MetricInputError("gqa: no balanced question to score")
    _need("prediction", questions if with_consistency else balanced, predictions)
    is_right = {key: predictions[key] == q["answer"] for key, q in balanced.items()}

    def mean_over(chosen: Callable[[Question], bool]) -> float:
        return _mean([float(is_right[key]) for key, q in balanced.items() if chosen(q)])

    metrics = {
        "binary": mean_over(lambda q: q["types"]["structural"] != "query"),
        "open": mean_over(lambda q: q["types"]["structural"] == "query"),
        "accuracy": mean_over(lambda q: True),
        "validity": _share_allowed(balanced, predictions, choices, "valid"),
        "plausibility": _share_allowed(balanced, predictions, choices, "plausible"),
    }
    if with_consistency:
        metrics["consistency"] = _consistency(questions, balanced, is_right, predictions)
    if attention is not None:
        _need("attention map", balanced, attention.maps)
        metrics["grounding"] = _mean([_grounding(k, q, attention) for k, q in balanced.items()])
    distance = _distribution(balanced, predictions)
    if distance is not None:
        metrics["distribution"] = distance
    return GqaScores(
        metrics=metrics,
        by_structural_type=_by(balanced, is_right, lambda q: str(q["types"]["structural"])),
        by_semantic_type=_by(balanced, is_right, lambda q: str(q["types"]["semantic"])),
        by_num_steps=_by(balanced, is_right, count_steps),
        by_num_words=_by(balanced, is_right, lambda q: len(q["question"].split())),
    )


def count_steps(question: Question) -> int:
    """Reasoning steps: semantic operations except existence tests and naming."""
    steps = [f"{step['operation']}: {step['argument']}" for step in question.get("semantic", ())]
    return sum(all(word not in step for word in STEPS_NOT_COUNTED) for step in steps)


def read_predictions(rows: object) -> dict[str, str]:
    """Answers from `[{"questionId", "prediction"}]`.

    Raises:
        MetricFileError: A row of another form.
        CoverageError: A question answered twice.
    """
    if not isinstance(rows, list):
        raise MetricFileError("gqa predictions: expected a JSON list")
    answers: dict[str, str] = {}
    for number, row in enumerate(rows):
        try:
            key, answer = str(row["questionId"]), str(row["prediction"])
        except (KeyError, TypeError) as error:
            raise MetricFileError(
                f"gqa predictions: row {number}: needs 'questionId' and 'prediction' ({error})"
            ) from error
        if key in answers:
            raise CoverageError(f"gqa predictions: row {number}: question {key} answered twice")
        answers[key] = answer
    return answers


def official_lines(scores: GqaScores) -> list[str]:
    """The scores as the official script prints them, in percent."""
    names = ("binary", "open", "accuracy", "consistency", "validity", "plausibility", "grounding")
    lines = [
        f"{name.capitalize()}: {100 * scores.metrics[name]:.2f}%"
        for name in names
        if name in scores.metrics
    ]
    if "distribution" in scores.metrics:
        lines.append(f"Distribution: {scores.metrics['distribution']:.2f} (lower is better)")
    lines.append("")
    for title, table in (
        ("structural type", scores.by_structural_type),
        ("semantic type", scores.by_semantic_type),
    ):
        lines += _section(title, sorted(table.items()))
    for title, numbers in (
        ("steps number", scores.by_num_steps),
        ("words number", scores.by_num_words),
    ):
        lines += _section(title, sorted(numbers.items()))
    return lines


def _section(title: str, rows: Sequence[tuple[str | int, tuple[float, int]]]) -> list[str]:
    body = [f"  {name}: {100 * share:.2f}% ({count} questions)" for name, (share, count) in rows]
    return [f"Accuracy / {title}:", *body, ""]


def _need(what: str, wanted: Iterable[str], there: Mapping[str, object]) -> None:
    missing = [key for key in wanted if key not in there]
    if missing:
        raise CoverageError(f"gqa: {len(missing)} questions without {what}: {name_ids(missing)}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _by(
    questions: Mapping[str, Question], is_right: Mapping[str, bool], kind: Callable[[Question], K]
) -> dict[K, tuple[float, int]]:
    groups: defaultdict[K, list[float]] = defaultdict(list)
    for key, question in questions.items():
        groups[kind(question)].append(float(is_right[key]))
    return {name: (_mean(values), len(values)) for name, values in groups.items()}


def _share_allowed(
    questions: Mapping[str, Question],
    predictions: Mapping[str, str],
    choices: Mapping[str, Mapping[str, Sequence[str]]] | None,
    kind: str,
) -> float:
    if choices is None:
        return 0.0
    scores = []
    for key, question in questions.items():
        if "Common" in (question["types"].get("detailed") or ""):
            allowed: Sequence[str] = COMMON_CHOICES
        elif key in choices:
            allowed = choices[key][kind]
        else:
            raise CoverageError(f"gqa: question {key} is not in the choices file")
        scores.append(float(predictions[key] in allowed))
    return _mean(scores)


def _consistency(
    questions: Mapping[str, Question],
    balanced: Mapping[str, Question],
    is_right: Mapping[str, bool],
    predictions: Mapping[str, str],
) -> float:
    scores = []
    for key, question in balanced.items():
        entailed = [other for other in question.get("entailed", ()) if other != key]
        if is_right[key] and entailed:
            _need("an entry though another entails them", entailed, questions)
            scores.append(
                _mean([float(predictions[o] == questions[o]["answer"]) for o in entailed])
            )
    return _mean(scores)


def _distribution(
    questions: Mapping[str, Question], predictions: Mapping[str, str]
) -> float | None:
    """Chi-square distance of predicted to true answer counts, weighted over groups, / 100."""
    gold: defaultdict[str, Counter[str]] = defaultdict(Counter)
    predicted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key, question in questions.items():
        group = question["groups"].get("global")
        if group is not None:
            gold[group][question["answer"]] += 1
            predicted[group][predictions[key]] += 1
    if not gold:
        return None
    total = weights = 0.0
    for group, counts in gold.items():
        chi = sum(
            (predicted[group][answer] - count) ** 2 / count for answer, count in counts.items()
        )
        total += chi * counts.total()
        weights += counts.total()
    return total / weights / 100.0


def _grounding(key: str, question: Question, attention: Attention) -> float:
    """Attention inside the boxes the question and its full answer point at."""
    scene = attention.scenes.get(question["imageId"])
    if scene is None:
        raise CoverageError(f"gqa: question {key}: image {question['imageId']} has no scene")
    annotations = question.get("annotations", {})
    regions: list[Box] = []
    for part in ("question", "fullAnswer"):
        for pointer in annotations.get(part, {}).values():
            if pointer not in scene["objects"]:
                raise CoverageError(f"gqa: question {key}: object {pointer} is not in its scene")
            regions.append(_region(scene["objects"][pointer], scene))
    if any("scene" in step for step in question.get("semantic", ())):  # a key, so in practice never
        regions.append((0.0, 0.0, 1.0, 1.0))
    cells = _cells(attention.maps[key], has_boxes=attention.has_boxes)
    return sum(weight * _share_inside(cell, box) for box in regions for cell, weight in cells)


def _region(thing: SceneObject, scene: Scene) -> Box:
    width, height = scene["width"], scene["height"]
    x0, y0 = thing["x"] / width, thing["y"] / height
    return x0, y0, (thing["x"] + thing["w"]) / width, (thing["y"] + thing["h"]) / height


def _cells(rows: Sequence[Sequence[float]], *, has_boxes: bool) -> list[tuple[Box, float]]:
    if has_boxes:
        return [((row[0], row[1], row[2], row[3]), row[4]) for row in rows]
    size = len(rows)
    return [
        ((i / size, j / size, (i + 1) / size, (j + 1) / size), rows[i][j])
        for i in range(size)
        for j in range(size)
    ]


def _share_inside(cell: Box, region: Box) -> float:
    width = max(min(cell[2], region[2]) - max(cell[0], region[0]), 0.0)
    height = max(min(cell[3], region[3]) - max(cell[1], region[1]), 0.0)
    area = (cell[2] - cell[0]) * (cell[3] - cell[1])
    return width * height / area if area > 0 else 0.0
