"""Generates captions: greedy, sampled, or by beam search.

Letters: B images, n rows, K kept sentences a row, G longest sentence with [CLS] and [SEP],
V vocabulary size, c words so far with [CLS].
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oscar_core.beams import Hypotheses
from oscar_core.caption_memory import CaptionMemory, CaptionSteps, PlainCaptionSteps
from oscar_core.caption_packing import CaptionBatch
from oscar_core.compat import OUR_GENERATION, GenerationCompat
from oscar_core.errors import GenerationError
from oscar_core.models import CaptionModel
from oscar_core.tokens import Tokenizer
from oscar_core.word_choice import Uniforms, draw_words, filtered, penalised

NO_SENTENCE = -1e5
"""Log-probability of a kept sentence that was not found."""
_NOT_YET = -1e9  # score of beams 2.. before the first word, which they would only repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How sentences are searched; the longest length is that of the prompts' slots.

    Attributes:
        num_beams: 1 is greedy. The published recipes use 5.
        num_kept: Best sentences kept by a beam search.
        num_sequences: Independent runs for each image (useful with sampling).
        is_sampled: Draw words by their probability.
        temperature: Logits are divided by it before drawing.
        top_k: Draw among the k likeliest words only; 0 for all.
        top_p: Draw among the likeliest words that together reach this probability; 1 for all.
        repetition_penalty: Makes words of the sentence less likely to come again if above 1.
        length_penalty: Exponent of the length; above 1 favours longer sentences.
        is_cached: Remember keys and values; False computes everything anew for each word, with
            the same result.

    Source: `oscar/modeling/modeling_bert.py:BertForImageCaptioning.generate`; specs/tasks.md 3.
    """

    num_beams: int = 5
    num_kept: int = 1
    num_sequences: int = 1
    is_sampled: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    is_cached: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that cannot be searched with."""
        for name in ("num_beams", "num_kept", "num_sequences"):
            if getattr(self, name) < 1:
                raise GenerationError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("temperature", "repetition_penalty"):
            if getattr(self, name) <= 0:
                raise GenerationError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.top_k < 0 or not 0.0 < self.top_p <= 1.0:
            raise GenerationError(
                f"top_k {self.top_k} and top_p {self.top_p}: want top_k >= 0 and 0 < top_p <= 1"
            )
        if self.num_beams == 1 and self.num_kept > 1:
            raise GenerationError("num_kept above 1 needs a beam search; set num_beams")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Sentences, `num_sequences` rows for each image, in image order.

    ids:               (n, K, G) int64    [CLS] words [SEP], filled with [PAD]
    log_probabilities: (n, K) float32     mean of a word; -1e5 where no sentence was found
    """

    ids: Tensor
    log_probabilities: Tensor

    def texts(self, tokenizer: Tokenizer) -> list[list[str]]:
        """The sentences in words, K for each row."""
        return [[tokenizer.decode(kept) for kept in row] for row in self.ids.tolist()]


def generate(
    model: CaptionModel,
    prompts: CaptionBatch,
    tokenizer: Tokenizer,
    settings: GenerationSettings,
    uniforms: Uniforms | None = None,
    compat: GenerationCompat = OUR_GENERATION,
) -> Generated:
    """Describe images.

    Args:
        model: Taken as in evaluation mode, whatever mode it is in.
        prompts: As `pack_prompts` made them, on the model's device.
        tokenizer: Of the model.
        settings: How to search.
        uniforms: Where a sampled word is drawn from; needed with `is_sampled`.
        compat: See its fields.

    Raises:
        GenerationError: Sampling without `uniforms`, or no room for a word.
    """
    if prompts.caption_slots < 2:
        raise GenerationError(f"a caption of {prompts.caption_slots} tokens has no room for a word")
    if settings.is_sampled and uniforms is None:
        raise GenerationError("sampling needs a source of random numbers; use uniforms_from(seed)")
    search = _Search(model, prompts, tokenizer, settings, uniforms, compat)
    with torch.no_grad(), _evaluating(model):
        return search.by_beams() if settings.num_beams > 1 else search.by_single_words()


class _Search:
    """One call of `generate`."""

    def __init__(
        self,
        model: CaptionModel,
        prompts: CaptionBatch,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        uniforms: Uniforms | None,
        compat: GenerationCompat,
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._tokenizer = tokenizer
        self._settings = settings
        self._uniforms = uniforms
        self._compat = compat
        self._longest = prompts.caption_slots
        self._num_rows = len(prompts) * settings.num_sequences

    def by_single_words(self) -> Generated:
        """One sentence a row; source `modeling_utils.py:_generate_no_beam_search`."""
        settings, tokenizer = self._settings, self._tokenizer
        steps, ids = self._begin(settings.num_sequences)
        is_open = torch.ones(self._num_rows, dtype=torch.bool, device=ids.device)
        total = torch.zeros(self._num_rows, device=ids.device)
        count = torch.zeros(self._num_rows, device=ids.device)
        while ids.shape[1] < self._longest and is_open.any():
            logits = penalised(steps.next_logits(ids), ids, settings.repetition_penalty)
            if settings.is_sampled:
                logits = self._narrowed(logits, 1)
                words = self._drawn(logits, 1)
            else:
                words = logits.argmax(dim=-1, keepdim=True)
            gained = logits.log_softmax(dim=-1).gather(1, words).squeeze(1)
            total += torch.where(is_open, gained, 0.0)
            count += is_open
            words = words.masked_fill(~is_open[:, None], tokenizer.pad_id)
            ids = torch.cat([ids, words], dim=1)
            is_open &= words.squeeze(1) != tokenizer.sep_id
        if ids.shape[1] == self._longest:
            ids[is_open, -1] = tokenizer.sep_id
        filled = nn.functional.pad(ids, (0, self._longest - ids.shape[1]), value=tokenizer.pad_id)
        return Generated(ids=filled[:, None], log_probabilities=(total / count)[:, None])

    def by_beams(self) -> Generated:
        """The best sentences a row; source `modeling_utils.py:_generate_beam_search`."""
        settings, tokenizer = self._settings, self._tokenizer
        steps, ids = self._begin(settings.num_sequences * settings.num_beams)
        kept = [
            Hypotheses(
                capacity=settings.num_kept,
                length_penalty=settings.length_penalty,
                keeps_repeats=self._compat.keeps_repeated_sentences,
            )
            for _ in range(self._num_rows)
        ]
        is_done = [False] * self._num_rows
        scores = torch.full((self._num_rows, settings.num_beams), _NOT_YET, device=ids.device)
        scores[:, 0] = 0.0
        while ids.shape[1] < self._longest and not all(is_done):
            logits = penalised(steps.next_logits(ids), ids, settings.repetition_penalty)
            candidates = self._candidates(logits, scores)
            chosen = self._choose(ids, candidates, kept, is_done)
            if not chosen.words:
                break
            parents = torch.tensor(chosen.parents, device=ids.device)
            words = torch.tensor(chosen.words, device=ids.device)
            scores = torch.tensor(chosen.scores, device=ids.device).view_as(scores)
            steps.reorder(parents)
            ids = torch.cat([ids[parents], words[:, None]], dim=1)
        return self._collected(kept, tokenizer)

    def _begin(self, rows_per_image: int) -> tuple[CaptionSteps, Tensor]:
        """What tells the next word, and [CLS] for every row."""
        mask_id = self._tokenizer.mask_id
        steps: CaptionSteps
        if self._settings.is_cached:
            steps = CaptionMemory(
                self._model,
                self._prompts,
                mask_id,
                rows_per_image,
                keeps_order=self._compat.keeps_memory_order,
            )
        else:
            steps = PlainCaptionSteps(self._model, self._prompts, mask_id, rows_per_image)
        rows = len(self._prompts) * rows_per_image
        device = self._prompts.packed.input_ids.device
        return steps, torch.full((rows, 1), self._tokenizer.cls_id, device=device)

    def _narrowed(self, logits: Tensor, num_needed: int) -> Tensor:
        """Temperature, then both filters."""
        settings = self._settings
        if settings.temperature != 1.0:
            logits = logits / settings.temperature
        return filtered(logits, settings.top_k, settings.top_p, num_needed)

    def _drawn(self, logits: Tensor, num_draws: int) -> Tensor:
        """Words drawn for each row, (rows, draws); no word twice."""
        assert self._uniforms is not None  # `generate` checked it
        uniforms = self._uniforms(len(logits), num_draws).to(logits.device)
        return draw_words(logits, uniforms)

    def _candidates(self, logits: Tensor, scores: Tensor) -> "_Candidates":
        """Two words for each beam of a row; (rows, 2 * beams) each."""
        num_beams = self._settings.num_beams
        if self._settings.is_sampled:
            logits = self._narrowed(logits, 2)
            words = self._drawn(logits, 2)
            gained = logits.log_softmax(dim=-1).gather(1, words)
            sums = (gained + scores.reshape(-1, 1)).view(self._num_rows, -1)
            order = torch.arange(2 * num_beams)
            by_remainder = self._compat.takes_parent_by_remainder
            beams = order % num_beams if by_remainder else order // 2
            return _Candidates(
                sums.tolist(),
                words.view(self._num_rows, -1).tolist(),
                [beams.tolist()] * self._num_rows,
            )
        sums = logits.log_softmax(dim=-1) + scores.reshape(-1, 1)
        flat = sums.view(self._num_rows, -1)
        best = flat.topk(min(2 * num_beams, flat.shape[1]), dim=1)
        size = logits.shape[-1]
        return _Candidates(
            best.values.tolist(), (best.indices % size).tolist(), (best.indices // size).tolist()
        )

    def _choose(
        self,
        ids: Tensor,
        candidates: "_Candidates",
        kept: list[Hypotheses],
        is_done: list[bool],
    ) -> "_Beams":
        """Close sentences that end and choose the beams that go on; none after the last word."""
        num_beams = self._settings.num_beams
        is_last = ids.shape[1] + 1 == self._longest
        so_far = ids.tolist()
        chosen = _Beams([], [], [])
        for row, (sums, words, beams) in enumerate(candidates.by_row()):
            is_done[row] |= kept[row].is_done(max(sums), self._longest - 1)
            num_chosen = 0
            for total, word, beam in zip(sums, words, beams, strict=True):
                if is_done[row] or num_chosen == num_beams:
                    break
                parent = row * num_beams + beam
                if is_last or word == self._tokenizer.sep_id:
                    kept[row].add(tuple(so_far[parent]), total)
                else:
                    chosen.add(total, word, parent)
                    num_chosen += 1
            if not is_last:
                for _ in range(num_beams - num_chosen):  # a finished row, or too few words
                    chosen.add(0.0 if is_done[row] else _NOT_YET, self._tokenizer.pad_id, 0)
        return chosen

    def _collected(self, kept: list[Hypotheses], tokenizer: Tokenizer) -> Generated:
        """Sentences of all rows, closed and filled to the longest length."""
        ids = torch.full((len(kept), self._settings.num_kept, self._longest), tokenizer.pad_id)
        scores = torch.full(ids.shape[:2], NO_SENTENCE)
        for row, hypotheses in enumerate(kept):
            for place, found in enumerate(hypotheses.best()):
                closed = [*found.ids, tokenizer.sep_id]
                ids[row, place, : len(closed)] = torch.tensor(closed)
                scores[row, place] = found.score
        return Generated(ids=ids, log_probabilities=scores)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Sums of log-probabilities, words and beams that they continue, by row."""

    sums: list[list[float]]
    words: list[list[int]]
    beams: list[list[int]]

    def by_row(self) -> Iterator[tuple[list[float], list[int], list[int]]]:
        return zip(self.sums, self.words, self.beams, strict=True)


@dataclass(frozen=True, slots=True)
class _Beams:
    """The beams that go on, all rows after one another."""

    scores: list[float]
    words: list[int]
    parents: list[int]

    def add(self, score: float, word: int, parent: int) -> None:
        self.scores.append(score)
        self.words.append(word)
        self.parents.append(parent)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off, and back to the mode the model was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
