"""The metrics of a run, flat, and the few of them that stand at the head of the page."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import sqrt

from flows.report.finished import FinishedStep, numbers, read_json
from flows.report.records import Bar, Measure, MetricRow, Role

SHUFFLED = "_shuffled"
FEATURES_SHUFFLED = "_features_shuffled"

ROLE_LABELS: Mapping[Role, str] = {
    "right": "right photo",
    "features_shuffled": "other photo, right tags",
    "shuffled": "other photo and tags",
    "majority": "commonest answer",
    "chance": "chance",
}

_ALLOWANCE = 0.1
_SMALLEST = 0.005  # what shows with two decimals
_PACKAGES = ("torch", "transformers", "oscar-flow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A metric that deserves the head of the page. suffix: end of its key."""

    suffix: str
    title: str
    subtitle: str
    is_fraction: bool = True
    majority: str = ""


_HEADLINES = (
    Headline(
        suffix="cider",
        title="Captions",
        subtitle="CIDEr, 0 to 10: closeness to what people wrote",
        is_fraction=False,
    ),
    Headline(
        suffix="colour_precision",
        title="True colours",
        subtitle="share of phrases like red car in the captions that are true of the photo",
    ),
    Headline(
        suffix="t2i.r1",
        title="Text → photo",
        subtitle="R@1: the right photo comes first",
    ),
    Headline(
        suffix="i2t.r1",
        title="Photo → text",
        subtitle="R@1: a right text comes first",
    ),
    Headline(
        suffix="vqa.accuracy",
        title="Answers",
        subtitle="VQA accuracy over all kinds of question",
        majority="vqa.majority",
    ),
)

_BOXES = (
    ("ap50", "boxes (AP50)"),
    ("map", "boxes, stricter"),
)
_ATTRIBUTES = (
    ("colour_accuracy", "colour"),
    ("pattern_accuracy", "pattern"),
    ("size_accuracy", "size"),
    ("attribute_accuracy", "all attributes"),
)
_LANGUAGES = {"zh": "Chinese", "en": "English"}


def metric_prefix(step: str, languages: Mapping[str, str]) -> str:
    """First part of the metric names of a scoring step.

    `score_detector` -> `detector`, `captioning_score` -> `captioning.zh`, `vqa_score` -> `vqa`.
    """
    if step.startswith("score_"):
        return step.removeprefix("score_")
    task = step.removesuffix("_score")
    if task.split("_")[0] == "captioning":
        language = languages.get(step) or task.partition("_")[2] or "zh"
        return f"captioning.{language}"
    return task.replace("_", ".")


def read_metrics(
    steps: Mapping[str, FinishedStep], languages: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """All scores under their flat names, and the versions that the scorers tell."""
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}
    for step in steps.values():
        scores = read_json(step.find("scores.json", "scores"))
        if not isinstance(scores, dict):
            continue
        prefix = metric_prefix(step.name, languages)
        for name, value in numbers(scores.get("values", scores)).items():
            metrics[f"{prefix}.{name}"] = value
        told = scores.get("versions")
        if isinstance(told, dict):
            versions |= {str(name): str(value) for name, value in told.items()}
    versions["python"] = platform.python_version()
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return metrics, versions


def metric_rows(metrics: Mapping[str, float]) -> tuple[MetricRow, ...]:
    """Every metric on one line with its controls, in the order of the names."""
    rows = []
    for key, value in sorted(metrics.items()):
        if key.endswith(SHUFFLED):
            base = key.removesuffix(FEATURES_SHUFFLED).removesuffix(SHUFFLED)
            if base in metrics:
                continue
        if key == "vqa.majority":
            continue
        rows.append(
            MetricRow(
                key=key,
                right=value,
                features_shuffled=metrics.get(key + FEATURES_SHUFFLED),
                shuffled=metrics.get(key + SHUFFLED),
                majority=metrics.get("vqa.majority") if key == "vqa.accuracy" else None,
            )
        )
    return tuple(rows)


def measures(
    metrics: Mapping[str, float], chances: Mapping[str, float], sizes: Mapping[str, int]
) -> tuple[Measure, ...]:
    """The headline figures that this run has, each beside its controls.

    Args:
        metrics: flat.
        chances: key -> what guessing would reach, where that is known.
        sizes: key -> number of things the fraction was measured on, where that is known.
    """
    return tuple(
        _measure(headline, key, metrics, chances.get(key), sizes.get(key, 0))
        for headline in _HEADLINES
        for key in sorted(metrics)
        if key == headline.suffix or key.endswith(f".{headline.suffix}")
    )


def detector_bars(metrics: Mapping[str, float]) -> tuple[Bar, ...]:
    """What the detector scored, one bar each; the first is the boxes, () without them."""
    found = [
        Bar(role="right", label=label, value=value, length=_clip(value))
        for name, label in (*_BOXES, *_ATTRIBUTES)
        if (value := metrics.get(f"detector.{name}")) is not None
    ]
    return tuple(found) if "detector.ap50" in metrics else ()


def verdict(value: float, controls: Sequence[tuple[str, float]], size: int) -> tuple[str, bool]:
    """Say by how much a score stands above the best of its controls.

    Args:
        value: fraction, or CIDEr.
        controls: label and value of each.
        size: number of things measured; 0 if unknown.

    Returns:
        The sentence, and whether the score is above by more than two standard errors; where
        these are not known, by more than a tenth of the control.
    """
    if not controls:
        return "", True
    label, best = max(controls, key=lambda control: control[1])
    noise = _ALLOWANCE * best
    if size:
        noise = 2 * sqrt(max(0.0, value * (1 - value) + best * (1 - best)) / size)
    difference = value - best
    named = f"its best control ({label})"
    if difference > noise:
        return f"{difference:.2f} above {named}", True
    if difference >= _SMALLEST:
        reason = f": within the noise of {size}" if size else ""
        return f"only {difference:.2f} above {named}{reason}", False
    return f"not above {named}", False


def _measure(
    headline: Headline, key: str, metrics: Mapping[str, float], chance: float | None, size: int
) -> Measure:
    found: list[tuple[Role, float | None]] = [
        ("right", metrics[key]),
        ("features_shuffled", metrics.get(key + FEATURES_SHUFFLED)),
        ("shuffled", metrics.get(key + SHUFFLED)),
        ("majority", metrics.get(headline.majority)),
        ("chance", chance),
    ]
    known = [(role, value) for role, value in found if value is not None]
    full = 1.0 if headline.is_fraction else max(1.0, *(value for _, value in known))
    sentence, is_above = verdict(
        metrics[key],
        [(ROLE_LABELS[role], value) for role, value in known[1:]],
        size if headline.is_fraction else 0,
    )
    return Measure(
        key=key,
        title=_titled(headline.title, key),
        subtitle=headline.subtitle,
        value=metrics[key],
        is_fraction=headline.is_fraction,
        bars=tuple(
            Bar(role=role, label=ROLE_LABELS[role], value=value, length=_clip(value / full))
            for role, value in known
        ),
        verdict=sentence,
        is_above=is_above,
    )


def _titled(title: str, key: str) -> str:
    """The title for a metric: that of `captioning.zh.cider` names the language."""
    parts = key.split(".")
    language = _LANGUAGES.get(parts[1]) if title == "Captions" and len(parts) > 2 else None
    return f"{language} captions" if language else title


def _clip(length: float) -> float:
    return min(1.0, max(0.0, length))
