"""Scores of generated captions: BLEU-1..4, METEOR, ROUGE-L, CIDEr over one set of images.

CIDEr counts in how many images of this very set an n-gram occurs: score the whole set at once,
never a mean over parts. BLEU and METEOR of the corpus are no means over images either.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from oscar_core.metrics import chinese
from oscar_core.metrics.compat import OURS, MetricCompat
from oscar_core.metrics.errors import (
    CoverageError,
    JavaUnavailableError,
    MetricInputError,
    name_ids,
)
from oscar_core.metrics.java import java_version
from oscar_core.metrics.meteor import Meteor, corpus_score, segment_score
from oscar_core.metrics.ptb import ptb_tokenize

TOKENIZERS = ("ptb", "jieba+ptb", "jieba", "char", "none")
"""ptb: COCO, English. jieba+ptb: AIC-ICC, Chinese. none: the words are already apart."""

METRICS = ("bleu", "meteor", "rouge_l", "cider")

Texts = dict[str, list[str]]
_Scored = tuple[dict[str, float], dict[str, list[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionScores:
    """What one set of captions is worth.

    corpus:         bleu_1..bleu_4, meteor, rouge_l as fractions; cider in 0..10
    per_image:      metric -> image id -> score
    versions:       tokenizer, segmenter, scorer, Java
    skipped:        metric -> why it was not computed
    num_references: over all images
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]]
    versions: dict[str, str]
    skipped: dict[str, str]
    num_references: int


def evaluate_captions(
    references: Mapping[str, Sequence[str]],
    candidates: Mapping[str, str],
    tokenizer: str = "ptb",
    metrics: Collection[str] = METRICS,
    *,
    meteor: Meteor | None = None,
    skip_without_java: bool = False,
    compat: MetricCompat = OURS,
) -> CaptionScores:
    """Score one caption per image against the references of the same images.

    Args:
        references: Raw sentences by image id, at least one each.
        candidates: One raw sentence by image id, the same ids.
        tokenizer: One of `TOKENIZERS`.
        metrics: Some of `METRICS`.
        meteor: A running process to reuse; else one is started and ended here.
        skip_without_java: Without Java list METEOR as skipped instead of failing. The PTB
            tokenizer cannot be skipped.
        compat: Faults of the originals to repeat.

    Raises:
        CoverageError: The ids differ, or an image has no reference.
        MetricInputError: Nothing to score, a caption is no text, an unknown name.
        JavaUnavailableError: Java is needed and not there.
        JavaProcessError: A Java program failed.
    """
    return evaluate_caption_sets(
        references,
        {"": candidates},
        tokenizer,
        metrics,
        meteor=meteor,
        skip_without_java=skip_without_java,
        compat=compat,
    )[""]


def evaluate_caption_sets(
    references: Mapping[str, Sequence[str]],
    candidate_sets: Mapping[str, Mapping[str, str]],
    tokenizer: str = "ptb",
    metrics: Collection[str] = METRICS,
    *,
    meteor: Meteor | None = None,
    skip_without_java: bool = False,
    compat: MetricCompat = OURS,
) -> dict[str, CaptionScores]:
    """Score several sets of captions (a model's and its controls') against the same references.

    The references are tokenized once and one METEOR process answers for all sets. Arguments and
    errors as in `evaluate_captions`.
    """
    _check_names(tokenizer, metrics)
    for candidates in candidate_sets.values():
        _check_coverage(references, candidates)
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        if "meteor" in metrics:
            meteor = meteor or stack.enter_context(Meteor())
            try:
                meteor.start()  # loads its tables while we tokenize and score the rest
            except JavaUnavailableError as error:
                if not skip_without_java:
                    raise
                skipped["meteor"] = str(error)
        scorers = _scorers(metrics, None if "meteor" in skipped else meteor, compat)
        tokenized_references = _tokenize(references, tokenizer)
        if not any(text.strip() for texts in tokenized_references.values() for text in texts):
            raise MetricInputError("references: every sentence is empty after tokenization")
        scores: dict[str, CaptionScores] = {}
        for name, candidates in candidate_sets.items():
            tokenized = _tokenize({image: [candidates[image]] for image in references}, tokenizer)
            corpus: dict[str, float] = {}
            per_image: dict[str, dict[str, float]] = {}
            for scorer in scorers:
                totals, lists = scorer(tokenized_references, tokenized)
                corpus |= totals
                for metric, values in lists.items():
                    per_image[metric] = dict(zip(tokenized_references, values, strict=True))
            scores[name] = CaptionScores(
                corpus=corpus,
                per_image=per_image,
                versions=scorer_versions(tokenizer),
                skipped=dict(skipped),
                num_references=sum(map(len, references.values())),
            )
    return scores


def scorer_versions(tokenizer: str) -> dict[str, str]:
    """What computed the scores, for the `_versions` block of a report."""
    return {
        "tokenizer": "PTB (Stanford CoreNLP 3.4.1)" if "ptb" in tokenizer else "none",
        "segmenter": {"ptb": "none", "none": "presegmented", "char": "characters"}.get(
            tokenizer, chinese.segmenter_version()
        ),
        "scorer": f"pycocoevalcap {version('pycocoevalcap')}, METEOR 1.5",
        "java": java_version(),
    }


def tokenize(texts: Sequence[str], tokenizer: str) -> list[str]:
    """Sentences as space-joined tokens, in order and one for one.

    Raises:
        JavaUnavailableError: PTB without Java.
        JavaProcessError: The PTB program failed.
    """
    if tokenizer == "ptb":
        return ptb_tokenize(texts)
    if tokenizer == "jieba+ptb":
        return ptb_tokenize([chinese.segment(text) for text in texts])
    if tokenizer == "jieba":
        return [chinese.segment(text) for text in texts]
    if tokenizer == "char":
        return [chinese.split_characters(text) for text in texts]
    return list(texts)


def _tokenize(texts: Mapping[str, Sequence[str]], tokenizer: str) -> Texts:
    """The same for texts grouped by image; one run of the tokenizer."""
    flat = iter(tokenize([text for group in texts.values() for text in group], tokenizer))
    return {image: [next(flat) for _ in group] for image, group in texts.items()}


def _check_names(tokenizer: str, metrics: Collection[str]) -> None:
    if tokenizer not in TOKENIZERS:
        raise MetricInputError(f"tokenizer {tokenizer!r}: choose one of {', '.join(TOKENIZERS)}")
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or isinstance(metrics, str):
        raise MetricInputError(f"metrics {metrics!r}: choose from {', '.join(METRICS)}")


def _check_coverage(references: Mapping[str, Sequence[str]], candidates: Mapping[str, str]) -> None:
    if not references:
        raise MetricInputError("references: no image to score")
    missing = [repr(image) for image in references if image not in candidates]
    if missing:
        raise CoverageError(f"no caption for {len(missing)} image(s): {name_ids(missing)}")
    unknown = [repr(image) for image in candidates if image not in references]
    if unknown:
        raise CoverageError(f"captions for {len(unknown)} unknown image(s): {name_ids(unknown)}")
    for image, sentences in references.items():
        if isinstance(sentences, str) or not all(isinstance(text, str) for text in sentences):
            raise MetricInputError(f"references of image {image!r}: must be a list of sentences")
        if not sentences:
            raise CoverageError(f"no reference for image {image!r}")
        if not isinstance(candidates[image], str):
            raise MetricInputError(f"caption of image {image!r}: must be one sentence")


def _scorers(
    metrics: Collection[str], meteor: Meteor | None, compat: MetricCompat
) -> list[Callable[[Texts, Texts], _Scored]]:
    """METEOR last, so that its process has had time to load."""
    scorers: list[Callable[[Texts, Texts], _Scored]] = []
    if "bleu" in metrics:
        scorers.append(_bleu)
    if "rouge_l" in metrics:
        scorers.append(_rouge_l)
    if "cider" in metrics:
        scorers.append(_cider)
    if "meteor" in metrics and meteor is not None:
        process = meteor
        scorers.append(lambda references, tokens: _meteor(references, tokens, process, compat))
    return scorers


def _bleu(references: Texts, candidates: Texts) -> _Scored:
    from pycocoevalcap.bleu.bleu import Bleu

    totals, lists = Bleu(4).compute_score(references, candidates, verbose=0)
    return (
        {f"bleu_{n}": float(total) for n, total in enumerate(totals, start=1)},
        {f"bleu_{n}": [float(score) for score in scores] for n, scores in enumerate(lists, 1)},
    )


def _rouge_l(references: Texts, candidates: Texts) -> _Scored:
    from pycocoevalcap.rouge.rouge import Rouge

    total, scores = Rouge().compute_score(references, candidates)
    return {"rouge_l": float(total)}, {"rouge_l": [float(score) for score in scores]}


def _cider(references: Texts, candidates: Texts) -> _Scored:
    from pycocoevalcap.cider.cider import Cider

    total, scores = Cider().compute_score(references, candidates)
    return {"cider": float(total)}, {"cider": [float(score) for score in scores]}


def _meteor(references: Texts, candidates: Texts, meteor: Meteor, compat: MetricCompat) -> _Scored:
    rows = [
        meteor.statistics(references[image], candidates[image][0], compat=compat)
        for image in references
    ]
    scores = [segment_score(row) for row in rows]
    return {"meteor": corpus_score(np.array(rows))}, {"meteor": scores}
