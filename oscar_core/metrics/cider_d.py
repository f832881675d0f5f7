"""CIDEr-D with given document frequencies, and the reward of self-critical training.

Words are what `str.split` gives; n-grams are tuples of 1 to 4 words. The caption files, the
document frequencies and the candidates must be wrapped and cased in the same way.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oscar_core.metrics.errors import MetricFileError, MetricInputError

MAX_N = 4
SIGMA = 6.0  # pyciderevalcap/ciderD; never changed by its callers
END_MARK = "<eos>"  # self-critical.pytorch prepro_ngrams.py

NGram = tuple[str, ...]
Segmenter = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFrequencies:
    """In how many images an n-gram occurs.

    counts:     n-gram -> number of images whose references contain it; others count as 0
    num_images: images of the corpus; may be smaller than a count (then idf is negative)
    """

    counts: Mapping[NGram, float]
    num_images: float

    def inverse(self, ngram: NGram) -> float:
        """ln(num_images) - ln(max(1, count))."""
        return math.log(self.num_images) - math.log(max(1.0, self.counts.get(ngram, 0.0)))


def count_documents(references: Iterable[Sequence[str]]) -> DocumentFrequencies:
    """Count over images; each element holds the references of one image.

    Raises:
        MetricInputError: No image.
    """
    counts: Counter[NGram] = Counter()
    num_images = 0
    for sentences in references:
        num_images += 1
        counts.update({ngram for sentence in sentences for ngram in _ngrams(sentence)})
    if num_images == 0:
        raise MetricInputError("document frequencies: no image to count over")
    return DocumentFrequencies(counts=counts, num_images=float(num_images))


def read_frequencies(path: Path) -> DocumentFrequencies:
    """Read `{"ref_len": images, "document_frequency": [["a red bus", count], ...]}`.

    Raises:
        MetricFileError: The file cannot be read or has another form.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return DocumentFrequencies(
            counts={tuple(words.split(" ")): float(n) for words, n in table["document_frequency"]},
            num_images=float(table["ref_len"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MetricFileError(
            f"{path}: not a document frequency table ({error}); "
            "it needs 'ref_len' and 'document_frequency'"
        ) from error


def frequencies_as_json(frequencies: DocumentFrequencies) -> str:
    """The text `read_frequencies` reads; sorted, so equal tables are equal bytes."""
    rows = [[" ".join(ngram), count] for ngram, count in sorted(frequencies.counts.items())]
    return json.dumps(
        {"ref_len": frequencies.num_images, "document_frequency": rows}, ensure_ascii=False
    )


def cider_d(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies | None = None,
    *,
    classic: bool = False,
) -> NDArray[np.float64]:
    """CIDEr-D of each candidate, 0 to 10 (larger in principle with a negative idf).

    Args:
        candidates: One sentence each; an image may occur many times.
        references: For each candidate the sentences of its image.
        frequencies: None counts them over `references` as listed, an image listed twice twice.
        classic: CIDEr of the first paper: no clipping, no length penalty.

    Raises:
        MetricInputError: The lists differ in length, are empty, or an image has no reference.

    Source: pyciderevalcap/ciderD/ciderD_scorer.py of ruotianluo/cider, oscar/utils/cider.
    """
    if len(candidates) != len(references) or not candidates:
        raise MetricInputError(
            f"cider_d: {len(candidates)} candidates for {len(references)} sets of references"
        )
    table = frequencies if frequencies is not None else count_documents(references)
    cached: dict[str, _Vector] = {}

    def vector(sentence: str) -> _Vector:
        if sentence not in cached:
            cached[sentence] = _Vector.of(sentence, table)
        return cached[sentence]

    scores = np.zeros(len(candidates))
    for row, (candidate, sentences) in enumerate(zip(candidates, references, strict=True)):
        if not sentences:
            raise MetricInputError(f"cider_d: candidate {row} has no reference")
        total = np.zeros(MAX_N)
        for sentence in sentences:
            total += _similarity(vector(candidate), vector(sentence), classic=classic)
        scores[row] = total.mean() / len(sentences) * 10.0
    return scores


@dataclass(frozen=True, slots=True)
class _Vector:
    """weights: per n a map n-gram -> count * idf; norms: (4,); num_bigrams stands for length."""

    weights: tuple[dict[NGram, float], ...]
    norms: NDArray[np.float64]
    num_bigrams: int

    @classmethod
    def of(cls, sentence: str, frequencies: DocumentFrequencies) -> "_Vector":
        weights: tuple[dict[NGram, float], ...] = tuple({} for _ in range(MAX_N))
        num_bigrams = 0
        for ngram, count in _ngrams(sentence).items():
            weights[len(ngram) - 1][ngram] = count * frequencies.inverse(ngram)
            num_bigrams += count if len(ngram) == 2 else 0
        norms = np.sqrt([sum(w * w for w in of_length.values()) for of_length in weights])
        return cls(weights, norms, num_bigrams)


def _similarity(candidate: _Vector, reference: _Vector, *, classic: bool) -> NDArray[np.float64]:
    """(4,) cosine per n; clipped and penalised unless classic."""
    similarity = np.zeros(MAX_N)
    for n in range(MAX_N):
        for ngram, weight in candidate.weights[n].items():
            other = reference.weights[n].get(ngram, 0.0)
            similarity[n] += (weight if classic else min(weight, other)) * other
        norms = candidate.norms[n] * reference.norms[n]
        if norms != 0:
            similarity[n] /= norms
    if not classic:
        difference = candidate.num_bigrams - reference.num_bigrams
        similarity *= math.exp(-(difference**2) / (2 * SIGMA**2))
    return similarity


def _ngrams(sentence: str) -> Counter[NGram]:
    words = sentence.split()
    return Counter(
        tuple(words[start : start + n])
        for n in range(1, MAX_N + 1)
        for start in range(len(words) - n + 1)
    )


def wrap_sentence(sentence: str) -> str:
    """Strip, drop one final full stop, append the end mark.

    Source: oscar/utils/caption_evaluate.py:ScstRewardCriterion._wrap_sentence.
    """
    return sentence.strip().removesuffix(".") + f" {END_MARK}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCriticalRewards:
    """Letters: B images, S samples of each; image-major.

    rewards:    (B * S,) score above the baseline
    scores:     (B * S,) CIDEr-D of the samples
    mean_score: their mean, what is logged
    """

    rewards: NDArray[np.float64]
    scores: NDArray[np.float64]
    mean_score: float


def self_critical_rewards(
    samples: Sequence[str],
    references: Sequence[Sequence[str]],
    frequencies: DocumentFrequencies,
    *,
    greedy: Sequence[str] | None = None,
    segmenter: Segmenter = str,
) -> SelfCriticalRewards:
    """Rewards of sampled captions for the REINFORCE loss `mean(-log-probability * reward)`.

    Args:
        samples: (B * S) decoded captions, the S samples of an image side by side.
        references: (B) sentences of each image.
        frequencies: Counted over wrapped training captions.
        greedy: (B) greedy captions: the baseline is their score. None: the baseline of a sample is
            the mean of the other S - 1 samples of its image.
        segmenter: Applied to every sentence before wrapping (lower case, Chinese words).

    Raises:
        MetricInputError: The numbers do not fit together; fewer than 2 samples without `greedy`.

    Source: oscar/utils/caption_evaluate.py:ScstRewardCriterion.forward.
    """
    num_images = len(references)
    if num_images == 0 or len(samples) == 0 or len(samples) % num_images:
        raise MetricInputError(f"rewards: {len(samples)} samples for {num_images} images")
    num_samples = len(samples) // num_images
    if greedy is None and num_samples < 2:
        raise MetricInputError("rewards: the baseline of samples needs at least 2 per image")
    if greedy is not None and len(greedy) != num_images:
        raise MetricInputError(f"rewards: {len(greedy)} greedy captions for {num_images} images")
    wrapped = [[wrap_sentence(segmenter(text)) for text in texts] for texts in references]
    sentences = [wrap_sentence(segmenter(text)) for text in (*samples, *(greedy or ()))]
    owners = [image for image in range(num_images) for _ in range(num_samples)]
    owners += list(range(num_images)) if greedy is not None else []
    scores = cider_d(sentences, [wrapped[image] for image in owners], frequencies)
    of_samples = scores[: len(samples)].reshape(num_images, num_samples)
    if greedy is not None:
        baseline = scores[len(samples) :, None]
    else:
        others = of_samples.sum(axis=1, keepdims=True) - of_samples
        baseline = others / (num_samples - 1)
    return SelfCriticalRewards(
        rewards=(of_samples - baseline).reshape(-1),
        scores=of_samples.reshape(-1),
        mean_score=float(of_samples.mean()),
    )
