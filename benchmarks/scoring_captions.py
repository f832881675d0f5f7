"""Scoring captions: a model and its two controls, one METEOR process for all or one for each."""

import random
import time
from collections.abc import Callable

from benchmarks.figure import Figure, ratio, timing
from oscar_core.metrics.caption import evaluate_caption_sets, evaluate_captions
from oscar_core.metrics.meteor import Meteor

NUM_IMAGES = 100
NUM_REFERENCES = 5
NUM_RUNS = 3

_WHO = ("一个男人", "两个孩子", "一只小狗", "穿红色上衣的女人", "一辆蓝色的车")
_DOES = ("在草地上奔跑", "站在街道旁边", "坐在木头椅子上", "看着白色的房子", "在海边玩耍")


def measure() -> list[Figure]:
    """Chinese captions by the AIC-ICC protocol, 100 images with 5 references, 3 sets."""
    draw = random.Random(0)

    def sentence() -> str:
        return draw.choice(_WHO) + draw.choice(_DOES)

    references = {
        f"image {n}": [sentence() for _ in range(NUM_REFERENCES)] for n in range(NUM_IMAGES)
    }
    sets = {
        name: {image: sentence() for image in references}
        for name in ("model", "shuffled", "features_shuffled")
    }
    evaluate_captions(references, sets["model"], "jieba", ("bleu",))  # loads jieba

    def together() -> object:
        return evaluate_caption_sets(references, sets, "jieba+ptb")

    def apart() -> object:
        return [evaluate_captions(references, s, "jieba+ptb") for s in sets.values()]

    def warm_up() -> object:
        with Meteor() as meteor:
            return meteor.statistics(["红"], "红")

    runs: dict[str, Callable[[], object]] = {"together": together, "apart": apart, "java": warm_up}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(NUM_RUNS):  # each starts Java anew, so there is nothing to warm up
        for name, call in runs.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return [
        timing("three sets, one process", seconds["together"]),
        timing("three sets, one process each", seconds["apart"]),
        ratio("one process for all", seconds["apart"], seconds["together"]),
        timing("METEOR from start to first answer", seconds["java"]),
    ]
