"""Judges captions: AIC-ICC protocol for Chinese, COCO protocol otherwise."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from oscar_core.errors import TaskError
from oscar_core.metrics.caption import evaluate_caption_sets
from oscar_core.task import Scores
from oscar_core.tasks.captioning.records import CHINESE, Config, Prediction
from storage.library import Library


def score(
    config: Config, predictions: Mapping[str, Sequence[Prediction]], library: Library, split: str
) -> Scores:
    """BLEU, METEOR, ROUGE-L as fractions, CIDEr in 0..10; controls share one METEOR process.

    A caption equal to its image's only reference has BLEU-1 1 and ROUGE-L 1.

    Raises:
        TaskError: The split has no captions.
        CoverageError: An image was not described, or is unknown.
    """
    references: defaultdict[str, list[str]] = defaultdict(list)
    for caption in library.captions(split, config.language):
        references[caption.image_id].append(caption.text)
    if not references:
        raise TaskError(f"captioning: no caption of split {split!r} in {config.language!r}")
    found = evaluate_caption_sets(
        references,
        {
            control: {each.image_id: each.caption for each in told}
            for control, told in predictions.items()
        },
        "jieba+ptb" if config.language == CHINESE else "ptb",
    )
    values = {
        f"{name}_{control}" if control else name: value
        for control, scores in found.items()
        for name, value in scores.corpus.items()
    }
    return Scores(values=values, versions=next(iter(found.values())).versions)
