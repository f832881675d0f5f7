"""One pretraining update at base size against the textbook's, and what each measure adds.

12 layers of 768, 21,128 words, batch 32, room for 35 + 50 positions, float32, all cores. Rows are
as long as those of the real photos' corpora (`benchmarks.pretraining.real_texts`). Forward,
backward, clipping and AdamW; the textbook is `benchmarks.pretraining.textbook`. The measures are
switched on one after the other; the runs take turns. About 4 minutes on two idle cores.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.figure import Figure, ratio, timing
from benchmarks.pretraining.real_texts import Batch, make_batch, material
from benchmarks.pretraining.textbook import CLIP, Textbook, TextbookAdamW
from oscar_core.config import OscarConfig
from oscar_core.kept_memory import keep_freed_memory, return_freed_memory
from oscar_core.losses import NOT_A_TARGET, cross_entropy
from oscar_core.models import PretrainingModel
from oscar_core.ragged import read
from oscar_core.training.optimiser import PublishedAdamW

BATCH = 32
NUM_RUNS = 3
PUBLISHED_QUESTIONS = 2502 / 3206
"""Share of question rows in the published mixture: VQA 545k, GQA 1026k, VG-QA 931k; COCO captions
559k, Flickr30k 145k."""
CONFIG = OscarConfig(vocabulary_size=21128, region_feature_dim=2054)
RATE, DECAY = 1e-4, 0.01
CHEAP_DICE = ("dropout", "add_and_norm", "ragged_attention")

Step = Callable[[], object]


def measure() -> list[Figure]:
    """Seconds of an update, from the textbook's to ours, and the ratio."""
    torch.manual_seed(0)
    found = material()
    batch = make_batch(found, BATCH)
    ours = Ours()
    theirs = Theirs(ours.model)
    seconds = _in_turn(
        {
            "textbook": lambda: theirs.step(batch, everywhere=True),
            "words": lambda: theirs.step(batch, everywhere=False),
            "padding": lambda: ours.step(batch, has_cheap_dice=False, optimiser=ours.textbook),
            "dice": lambda: ours.step(batch, optimiser=ours.textbook),
            "optimiser": lambda: ours.step(batch),
            "ours": lambda: ours.step(batch, keeps_memory=True),
        },
        NUM_RUNS,
    )
    others = {
        "every image with 36 regions": make_batch(found, BATCH, num_regions=36),
        "every image with 50 regions": make_batch(found, BATCH, num_regions=50),
        "the published share of questions": make_batch(
            found, BATCH, question_share=PUBLISHED_QUESTIONS
        ),
    }
    runs: dict[str, Step] = {
        name: (lambda each=each: ours.step(each, keeps_memory=True))
        for name, each in others.items()
    }
    runs["bf16"] = lambda: ours.step(batch, keeps_memory=True, dtype=torch.bfloat16)
    further = _in_turn(runs, 2)
    named = {"": batch} | others
    return [
        ratio("pretrain.step_ratio_fp32", seconds["textbook"], seconds["ours"]),
        _single("pretrain.arithmetic_ratio", arithmetic(batch, textbook=True) / arithmetic(batch)),
        timing("pretrain.textbook_step", seconds["textbook"]),
        timing("pretrain.step", seconds["ours"]),
        *_parts(seconds),
        *(
            _against(f"pretrain.step_ratio_fp32, {name}", seconds["textbook"], further[name])
            for name in others
        ),
        _against("pretrain.step_ratio_bf16", seconds["textbook"], further["bf16"]),
        *(
            _single(f"pretrain.visible_share{', ' if name else ''}{name}", each.visible, "of all")
            for name, each in named.items()
        ),
    ]


def arithmetic(batch: Batch, *, textbook: bool = False) -> float:
    """Multiplications of an update's matrix products, forward; backward has twice as many."""
    width, wide, words = CONFIG.hidden_size, CONFIG.intermediate_size, CONFIG.vocabulary_size
    mask = batch.packed.attention_mask
    num_labels = int((batch.words != NOT_A_TARGET).sum())
    lengths = torch.full((len(mask),), mask.shape[1]) if textbook else mask.sum(1)
    num = int(lengths.sum())
    asking = num if textbook else num_labels + len(mask)
    pairs = int((lengths**2).sum())
    asked_pairs = pairs if textbook else int((lengths * (batch.words != NOT_A_TARGET).sum(1)).sum())
    one = 2 * width * width + 2 * width * wide  # queries, output; feed-forward
    layers = (CONFIG.num_layers - 1) * (num * (one + 2 * width**2) + 2 * pairs * width)
    last = asking * one + num * 2 * width**2 + 2 * asked_pairs * width
    head = (num if textbook else num_labels) * (width**2 + width * words)
    return float(layers + last + head)


class Ours:
    """Our model with two optimisers for the same parameters."""

    def __init__(self) -> None:
        self.model = PretrainingModel(CONFIG).train()
        groups = TextbookAdamW(self.model, lr=RATE, weight_decay=DECAY).param_groups
        self.published = PublishedAdamW(
            [
                {"params": list(each["params"]), "weight_decay": each["weight_decay"]}
                for each in groups
            ],
            lr=RATE,
        )
        self.textbook = TextbookAdamW(self.model, lr=RATE, weight_decay=DECAY)

    def step(
        self,
        batch: Batch,
        *,
        has_cheap_dice: bool = True,
        keeps_memory: bool = False,
        optimiser: torch.optim.Optimizer | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """One update."""
        with ExitStack() as stack:
            stack.enter_context(_memory(keeps=keeps_memory))
            if not has_cheap_dice:
                for name in CHEAP_DICE:
                    place = f"oscar_core.{name}.has_cheap_dice"
                    stack.enter_context(patch(place, lambda states: False))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
                loss = self._loss(batch)
            _update(self.model, loss, optimiser or self.published)

    def _loss(self, batch: Batch) -> Tensor:
        wanted = batch.words != NOT_A_TARGET
        found = read(self.model.encoder, batch.packed, wanted)
        words = self.model.word_head(found.wanted, self.model.word_embedding)
        contrast = self.model.contrast_head(found.pooled)
        return cross_entropy(words, batch.words[wanted]) + cross_entropy(contrast, batch.matches)


class Theirs:
    """The textbook's model and optimiser."""

    def __init__(self, model: PretrainingModel) -> None:
        self.model = Textbook(CONFIG).train()
        self.model.take(model)
        self._optimiser = TextbookAdamW(self.model, lr=RATE, weight_decay=DECAY)

    def step(self, batch: Batch, *, everywhere: bool) -> None:
        """One update."""
        with _memory(keeps=False):
            loss = self.model.loss(batch.packed, batch.words, batch.matches, everywhere=everywhere)
            _update(self.model, loss, self._optimiser)


def _update(model: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimiser.step()
    optimiser.zero_grad()


@contextmanager
def _memory(*, keeps: bool) -> Iterator[None]:
    """Keep what is freed, which the first update after a change has yet to take."""
    global _is_kept
    if keeps != _is_kept:
        (keep_freed_memory if keeps else return_freed_memory)()
        _is_kept = keeps
    yield


_is_kept = False


def _in_turn(runs: dict[str, Step], n: int) -> dict[str, list[float]]:
    """Like `side_by_side`; a run that keeps memory has one unmeasured update before it."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(n + 1):
        for name, step in runs.items():
            if name == "ours" and number:
                step()
            start = time.perf_counter()
            step()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _parts(seconds: dict[str, list[float]]) -> Iterator[Figure]:
    """How many times faster each measure makes what all before it make."""
    told = {
        "words": "words scored where masked",
        "padding": "no padding, last layer where read",
        "dice": "cheap dice, fused sums, attention in cache",
        "optimiser": "AdamW in one pass",
        "ours": "freed memory kept",
    }
    names = list(seconds)
    for before, name in pairwise(names):
        yield ratio(f"pretrain.part, {told[name]}", seconds[before], seconds[name])


def _against(name: str, slow: list[float], fast: list[float]) -> Figure:
    """Ratio of medians of runs that did not take turns."""
    value = statistics.median(slow) / statistics.median(fast)
    spread = max(slow) / min(fast) - min(slow) / max(fast)
    return Figure(name=name, value=value, unit="x", n=len(fast), spread=spread)


def _single(name: str, value: float, unit: str = "x") -> Figure:
    return Figure(name=name, value=value, unit=unit, n=1, spread=0.0)
