"""Ranks against the plain definition, ties, folds, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics.errors import MetricInputError
from oscar_core.metrics.retrieval import (
    fold_recalls,
    mean_recalls,
    rank_candidates,
    ranks,
    recall_at,
    recalls,
)

SMALL = st.integers(1, 4)


@given(SMALL, SMALL, st.randoms(use_true_random=False))
def test_ranks_equal_the_sorted_definition(num_images: int, per_image: int, random: object) -> None:
    generator = np.random.default_rng(random.randrange(10**6))  # type: ignore[attr-defined]
    scores = generator.integers(0, 3, (num_images, num_images * per_image)).astype(float)
    owners = np.repeat(np.arange(num_images), per_image)
    found = ranks(scores, owners)
    for row in range(num_images):
        order = np.argsort(scores[row], kind="stable")[::-1].tolist()
        own = np.flatnonzero(owners == row)
        assert found.image_to_text[row] == min(order.index(column) for column in own)
    for column, owner in enumerate(owners):
        order = np.argsort(scores[:, column], kind="stable")[::-1].tolist()
        assert found.text_to_image[column] == order.index(owner)
    best = ranks(scores, owners, "optimistic")
    worst = ranks(scores, owners, "pessimistic")
    assert (best.image_to_text <= found.image_to_text).all()
    assert (found.image_to_text <= worst.image_to_text).all()
    assert (best.text_to_image <= found.text_to_image).all()
    assert (found.text_to_image <= worst.text_to_image).all()


def test_a_constant_scorer_does_not_look_good() -> None:
    found = recalls(ranks(np.zeros((100, 500)), np.repeat(np.arange(100), 5)))
    assert found["t2i.r1"] == pytest.approx(0.01)
    assert found["i2t.r1"] == pytest.approx(0.01)


def test_captions_may_be_ragged_and_in_any_order() -> None:
    scores = [[0.1, 0.9, 0.5], [0.8, 0.2, 0.6]]
    found = ranks(scores, [1, 0, 1])
    assert found.image_to_text.tolist() == [0, 0]
    assert found.text_to_image.tolist() == [0, 0, 0]


def test_no_positive_ranks_behind_everything() -> None:
    places = rank_candidates([[0.5, 0.1]], np.array([[False, False]]))
    assert places.tolist() == [2]
    assert recall_at(places, (1, 3)) == {1: 0.0, 3: 1.0}


def test_folds_are_consecutive_images_with_their_captions() -> None:
    scores = np.eye(4)
    folds = fold_recalls(scores, range(4), 2, (1,))
    assert folds == [{"i2t.r1": 1.0, "t2i.r1": 1.0}] * 2
    assert mean_recalls(folds) == {"i2t.r1": 1.0, "t2i.r1": 1.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused(bad: float) -> None:
    scores = np.zeros((2, 2))
    scores[1, 0] = bad
    with pytest.raises(MetricInputError, match="row 1, column 0"):
        ranks(scores, [0, 1])


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(MetricInputError, match="image index below 2"):
        ranks(np.zeros((2, 2)), [0, 2])
    with pytest.raises(MetricInputError, match="image index"):
        ranks(np.zeros((2, 2)), [0])
    with pytest.raises(MetricInputError, match="expected"):
        ranks(np.zeros((0, 2)), [0, 0])
    with pytest.raises(MetricInputError, match="labels"):
        rank_candidates(np.zeros((2, 2)), np.zeros((1, 2), dtype=bool))
    with pytest.raises(MetricInputError, match="ties"):
        ranks(np.zeros((1, 1)), [0], "lucky")
    with pytest.raises(MetricInputError, match="do not make 3 folds"):
        fold_recalls(np.zeros((4, 4)), range(4), 3)
    with pytest.raises(MetricInputError, match="nothing was ranked"):
        recall_at(np.zeros(0, dtype=np.int64))
    with pytest.raises(MetricInputError, match="no fold"):
        mean_recalls([])
