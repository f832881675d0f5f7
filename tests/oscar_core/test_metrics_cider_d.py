"""CIDEr-D with given frequencies, and the reward built on it."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics.caption import evaluate_captions
from oscar_core.metrics.cider_d import (
    DocumentFrequencies,
    cider_d,
    count_documents,
    frequencies_as_json,
    read_frequencies,
    self_critical_rewards,
    wrap_sentence,
)
from oscar_core.metrics.errors import MetricFileError, MetricInputError

WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=7).map(" ".join)
NOTHING_SEEN = DocumentFrequencies(counts={}, num_images=10.0)


def test_an_image_counts_once_however_often_an_ngram_occurs_in_it() -> None:
    table = count_documents([["a b", "a b a"], ["a"]])
    assert table.num_images == 2
    assert table.counts[("a",)] == 2
    assert table.counts[("a", "b")] == 1
    assert table.inverse(("never",)) == pytest.approx(math.log(2))


def test_a_sentence_against_itself_scores_ten_and_short_ones_less() -> None:
    scores = cider_d(["a b c d", "a b"], [["a b c d"], ["a b"]], NOTHING_SEEN)
    assert scores.tolist() == pytest.approx([10.0, 5.0])  # two words have no 3- and 4-grams


def test_length_is_counted_in_bigrams() -> None:
    longer = cider_d(["a b c"], [["a b"]], NOTHING_SEEN, classic=True)[0]
    assert cider_d(["a b c"], [["a b"]], NOTHING_SEEN)[0] == pytest.approx(
        longer * math.exp(-1 / 72)
    )
    assert cider_d([""], [["a"]], NOTHING_SEEN)[0] == 0.0


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=2, max_size=5))
def test_corpus_mode_equals_the_scorer_of_captions(rows: list[tuple[str, str, str]]) -> None:
    references = {str(n): [a, b] for n, (a, b, _) in enumerate(rows)}
    candidates = {str(n): c for n, (_, _, c) in enumerate(rows)}
    theirs = evaluate_captions(references, candidates, "none", ["cider"]).per_image["cider"]
    ours = cider_d(list(candidates.values()), list(references.values()))
    assert ours.tolist() == pytest.approx(list(theirs.values()), abs=1e-9)


def test_tables_are_read_as_they_are_written(tmp_path: Path) -> None:
    table = count_documents([["a red bus <eos>"], ["一 辆 车 <eos>"]])
    path = tmp_path / "words.json"
    path.write_text(frequencies_as_json(table), encoding="utf-8")
    assert read_frequencies(path) == DocumentFrequencies(counts=dict(table.counts), num_images=2.0)
    path.write_text('{"document_frequency": [["a"', encoding="utf-8")
    with pytest.raises(MetricFileError, match=r"words\.json: not a document frequency table"):
        read_frequencies(path)


def test_sentences_are_wrapped_as_the_table_was_counted() -> None:
    assert wrap_sentence(" a dog. ") == "a dog <eos>"
    assert wrap_sentence("a dog..") == "a dog. <eos>"
    assert wrap_sentence("") == " <eos>"


def test_the_baseline_of_samples_makes_rewards_of_an_image_sum_to_zero() -> None:
    found = self_critical_rewards(
        ["a dog", "a cat", "a bus", "two", "two dogs", "cats"],
        [["a dog"], ["two dogs run"]],
        NOTHING_SEEN,
    )
    assert found.rewards.reshape(2, 3).sum(axis=1).tolist() == pytest.approx([0, 0])
    assert found.mean_score == pytest.approx(found.scores.mean())


def test_the_greedy_baseline_is_subtracted_and_segmentation_comes_first() -> None:
    samples, references, greedy = ["A DOG", "a cat"], [["a dog"]], ["a dog"]
    found = self_critical_rewards(
        samples, references, NOTHING_SEEN, greedy=greedy, segmenter=str.lower
    )
    assert found.rewards[0] == pytest.approx(0)
    assert found.rewards[1] < 0


@pytest.mark.parametrize(
    ("samples", "references", "greedy"),
    [
        (["a"], [], None),
        (["a", "b", "c"], [["a"], ["b"]], None),
        (["a"], [["a"]], None),
        (["a"], [["a"]], ["a", "b"]),
        (["a"], [[]], ["a"]),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    samples: list[str], references: list[list[str]], greedy: list[str] | None
) -> None:
    with pytest.raises(MetricInputError):
        self_critical_rewards(samples, references, NOTHING_SEEN, greedy=greedy)
    with pytest.raises(MetricInputError):
        cider_d([], [])
    assert np.isfinite(cider_d(["a"], [["a"]])).all()
