"""Ranks and R@k of image-text retrieval.

Letters: N images, C captions. A rank is 0-based; R@k is the share of ranks below k. Equal scores:
sort ascending stably, then reverse, so of equals the one with the higher index comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oscar_core.metrics.errors import MetricInputError

CUTOFFS = (1, 5, 10)
TIES = ("stable", "optimistic", "pessimistic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """image_to_text: (N,) place of the best own caption; text_to_image: (C,) place of the image."""

    image_to_text: NDArray[np.int64]
    text_to_image: NDArray[np.int64]


def ranks(
    similarity: ArrayLike, caption_images: Sequence[int] | NDArray[np.int64], ties: str = "stable"
) -> Ranks:
    """Rank every caption for every image and the other way round.

    Args:
        similarity: (N, C) finite scores, higher is more alike.
        caption_images: (C,) index of the image each caption belongs to.
        ties: `stable` (the rule above, to be reported), `optimistic` or `pessimistic` (wrong ones
            behind or before equal right ones).

    Raises:
        MetricInputError: NaN or infinity, shapes that disagree, nothing to rank.

    Source: microsoft/Oscar run_retrieval.py:compute_ranks; tie rule of specs/metrics.md 14.
    """
    scores = _checked(similarity)
    owners = np.asarray(caption_images, dtype=np.int64)
    num_images, num_captions = scores.shape
    if owners.shape != (num_captions,) or not ((owners >= 0) & (owners < num_images)).all():
        raise MetricInputError(
            f"retrieval: {num_captions} columns need an image index below {num_images} each, "
            f"got {owners.shape}"
        )
    is_own = owners[None, :] == np.arange(num_images)[:, None]
    return Ranks(
        image_to_text=rank_candidates(scores, is_own, ties),
        text_to_image=rank_candidates(scores.T, is_own.T, ties),
    )


def rank_candidates(
    scores: ArrayLike, is_positive: NDArray[np.bool_], ties: str = "stable"
) -> NDArray[np.int64]:
    """Place of the best positive in each row; the length of the list where a row has none.

    Args:
        scores: (rows, candidates) finite.
        is_positive: (rows, candidates).
        ties: As in `ranks`.

    Raises:
        MetricInputError: As in `ranks`.
    """
    table = _checked(scores)
    if is_positive.shape != table.shape:
        raise MetricInputError(f"retrieval: {table.shape} scores, {is_positive.shape} labels")
    if ties not in TIES:
        raise MetricInputError(f"retrieval: ties {ties!r}: choose one of {', '.join(TIES)}")
    places = np.full(len(table), table.shape[1], dtype=np.int64)
    for row, (values, own) in enumerate(zip(table, is_positive, strict=True)):
        if own.any():
            places[row] = _place(values, own, ties)
    return places


def _place(values: NDArray[np.float64], own: NDArray[np.bool_], ties: str) -> int:
    best = values[own].max()
    ahead = int((values > best).sum())
    if ties == "optimistic":
        return ahead
    equal = values == best
    if ties == "pessimistic":
        return ahead + int((equal & ~own).sum())
    last_own = np.flatnonzero(equal & own)[-1]
    return ahead + int(equal[last_own + 1 :].sum())


def recall_at(places: NDArray[np.int64], cutoffs: Sequence[int] = CUTOFFS) -> dict[int, float]:
    """Share of ranks below each cutoff.

    Raises:
        MetricInputError: No rank.
    """
    if len(places) == 0:
        raise MetricInputError("retrieval: nothing was ranked")
    return {k: int((places < k).sum()) / len(places) for k in cutoffs}


def recalls(found: Ranks, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """R@k both ways under names as in metrics.json: `i2t.r1`, `t2i.r10`."""
    both = (("i2t", found.image_to_text), ("t2i", found.text_to_image))
    return {f"{way}.r{k}": v for way, p in both for k, v in recall_at(p, cutoffs).items()}


def fold_recalls(
    similarity: ArrayLike,
    caption_images: Sequence[int] | NDArray[np.int64],
    num_folds: int = 5,
    cutoffs: Sequence[int] = CUTOFFS,
) -> list[dict[str, float]]:
    """`recalls` of consecutive folds of images with their own captions (COCO 1K: 5 folds).

    Raises:
        MetricInputError: The images do not divide into the folds, or as in `ranks`.
    """
    scores = _checked(similarity)
    owners = np.asarray(caption_images, dtype=np.int64)
    if num_folds < 1 or len(scores) % num_folds:
        raise MetricInputError(f"retrieval: {len(scores)} images do not make {num_folds} folds")
    size = len(scores) // num_folds
    results = []
    for start in range(0, len(scores), size):
        inside = (owners >= start) & (owners < start + size)
        part = scores[start : start + size][:, inside]
        results.append(recalls(ranks(part, owners[inside] - start), cutoffs))
    return results


def mean_recalls(folds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean over folds of every number.

    Raises:
        MetricInputError: No fold.
    """
    if not folds:
        raise MetricInputError("retrieval: no fold")
    return {name: sum(fold[name] for fold in folds) / len(folds) for name in folds[0]}


def _checked(similarity: ArrayLike) -> NDArray[np.float64]:
    scores = np.asarray(similarity, dtype=np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise MetricInputError(f"retrieval: scores of shape {scores.shape}, expected (N, C)")
    if not np.isfinite(scores).all():
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise MetricInputError(
            f"retrieval: score of row {row}, column {column} is {scores[row, column]}; "
            "NaN would rank first"
        )
    return scores
