"""Judges the answers of a pretrained model, before any fine-tuning."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from oscar_core.task import Scores
from oscar_core.tasks.pretraining.records import Config, Prediction
from storage.library import Library


def score(
    config: Config, predictions: Mapping[str, Sequence[Prediction]], library: Library, split: str
) -> Scores:
    """Share of answers told in full; over all questions and by kind.

    Two questions, one answered rightly: accuracy 0.5.
    """
    values: dict[str, float] = {}
    for control, told in predictions.items():
        ending = f"_{control}" if control else ""
        verdicts: defaultdict[str, list[bool]] = defaultdict(list)
        for each in told:
            verdicts["accuracy"].append(each.told == each.answer)
            verdicts[f"accuracy.{each.kind}"].append(each.told == each.answer)
        values |= {name + ending: sum(v) / len(v) for name, v in verdicts.items()}
    return Scores(values=values, versions={})
