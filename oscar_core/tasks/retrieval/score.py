"""Judges rankings: R@1, R@5, R@10 both ways."""

from collections.abc import Mapping, Sequence

import numpy as np

from oscar_core.errors import TaskError
from oscar_core.metrics.retrieval import ranks, recalls
from oscar_core.task import Scores
from oscar_core.tasks.retrieval.dataset import candidate_ids
from oscar_core.tasks.retrieval.records import Config, Prediction
from storage.library import Library


def score(
    config: Config, predictions: Mapping[str, Sequence[Prediction]], library: Library, split: str
) -> Scores:
    """`t2i.r1`: share of captions whose image comes first; `i2t.r1` the other way round.

    Two images with one caption each, both captions nearest to the first image: t2i.r1 0.5.

    Raises:
        TaskError: A caption's image is no candidate, or a row of scores has another length.
    """
    names = candidate_ids(config, library, split)
    place = {name: number for number, name in enumerate(names)}
    values: dict[str, float] = {}
    for control, told in predictions.items():
        for each in told:
            if each.image_id not in place or len(each.scores) != len(names):
                raise TaskError(
                    f"retrieval: caption {each.caption_id!r} was not ranked against the "
                    f"{len(names)} candidate images of split {split!r}; predict again"
                )
        ending = f"_{control}" if control else ""
        similarity = np.array([each.scores for each in told], dtype=np.float64).T
        found = recalls(ranks(similarity, [place[each.image_id] for each in told]))
        values |= {name + ending: value for name, value in found.items()}
    return Scores(values=values, versions={})
