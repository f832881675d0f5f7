"""Captions by beam search: remembered keys and values, everything anew, a textbook loop."""

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.figure import Figure, ratio, side_by_side, timing
from oscar_core.caption_memory import PlainCaptionSteps
from oscar_core.caption_packing import CaptionBatch, generation_layout, pack_prompts
from oscar_core.config import OscarConfig
from oscar_core.generation import GenerationSettings, generate
from oscar_core.models import CaptionModel
from oscar_core.packing import EncoderInput, Layout
from oscar_core.tokens import SPECIAL_TOKENS, Tokenizer

NUM_IMAGES = 8
NUM_REGIONS = 36
MAX_LENGTH = 20
NUM_BEAMS = 5
NUM_RUNS = 3
CONFIG = OscarConfig(
    vocabulary_size=2000,
    region_feature_dim=262,
    hidden_size=128,
    num_layers=3,
    num_heads=4,
    intermediate_size=512,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    max_positions=128,
)


def measure() -> list[Figure]:
    """8 images, 20 tokens, 5 beams, 3 layers of 128, 2,000 words; the same sentences each way."""
    torch.manual_seed(0)
    words = [f"word{number}" for number in range(CONFIG.vocabulary_size - len(SPECIAL_TOKENS))]
    tokenizer = Tokenizer([*SPECIAL_TOKENS, *words])
    model = CaptionModel(CONFIG).eval()
    prompts = _prompts(tokenizer)
    remembered = GenerationSettings(num_beams=NUM_BEAMS)
    anew = GenerationSettings(num_beams=NUM_BEAMS, is_cached=False)

    def run(settings: GenerationSettings) -> list[list[list[int]]]:
        ids: list[list[list[int]]] = generate(model, prompts, tokenizer, settings).ids.tolist()
        return ids

    runs: dict[str, Callable[[], object]] = {
        "textbook": lambda: [
            textbook_beam_search(model, one, tokenizer, NUM_BEAMS) for one in _each(prompts)
        ],
        "anew": lambda: run(anew),
        "remembered": lambda: run(remembered),
    }
    expected = run(remembered)
    if run(anew) != expected or runs["textbook"]() != [row[0] for row in expected]:
        raise AssertionError("the three ways of decoding disagree, so their times mean nothing")
    seconds = side_by_side(runs, n=NUM_RUNS)
    return [
        timing("8 captions, keys and values remembered", seconds["remembered"]),
        timing("8 captions, everything anew each word", seconds["anew"]),
        timing("8 captions, textbook loop", seconds["textbook"]),
        ratio("remembered against anew", seconds["anew"], seconds["remembered"]),
        ratio("remembered against textbook", seconds["textbook"], seconds["remembered"]),
    ]


def _prompts(tokenizer: Tokenizer) -> CaptionBatch:
    draw = np.random.default_rng(0)
    shape = (NUM_REGIONS, CONFIG.region_feature_dim)
    inputs = [
        EncoderInput(
            text_a="",
            text_b=" ".join(f"word{n}" for n in draw.integers(0, 1000, 20)),
            regions=draw.normal(size=shape).astype(np.float32),
        )
        for _ in range(NUM_IMAGES)
    ]
    layout = Layout(max_text=70, max_text_a=40, max_regions=50, pad_to_longest=True)
    return pack_prompts(inputs, tokenizer, generation_layout(layout, MAX_LENGTH))


def _each(prompts: CaptionBatch) -> list[CaptionBatch]:
    """One prompt for each image."""
    return [
        CaptionBatch(
            packed=prompts.packed.rows(torch.tensor([row])),
            caption_slots=prompts.caption_slots,
            masked=prompts.masked[[row]],
            masked_ids=prompts.masked_ids[[row]],
        )
        for row in range(len(prompts))
    ]


@torch.no_grad()
def textbook_beam_search(
    model: CaptionModel,
    prompt: CaptionBatch,
    tokenizer: Tokenizer,
    num_beams: int,
    length_penalty: float = 1.0,
) -> list[int]:
    """The best sentence of one image, written as the rule reads, one list at a time.

    Source: `specs/tasks.md` 3.5.
    """
    longest = prompt.caption_slots
    beams: list[tuple[float, list[int]]] = [(0.0, [tokenizer.cls_id])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, longest):
        steps = PlainCaptionSteps(model, prompt, tokenizer.mask_id, len(beams))
        log_p = steps.next_logits(torch.tensor([ids for _, ids in beams])).log_softmax(dim=-1)
        sums = log_p + torch.tensor([total for total, _ in beams])[:, None]
        best = sums.flatten().topk(2 * num_beams)
        if finished and finished[0][0] >= best.values[0].item() / (longest - 1) ** length_penalty:
            break
        following: list[tuple[float, list[int]]] = []
        for total, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            beam, word = divmod(place, log_p.shape[1])
            ids = beams[beam][1]
            if word == tokenizer.sep_id or length + 1 == longest:
                finished.append((total / length**length_penalty, [*ids, tokenizer.sep_id]))
            else:
                following.append((total, [*ids, word]))
            if len(following) == num_beams:
                break
        finished = sorted(finished, key=lambda each: -each[0])[:1]
        beams = following
    sentence = finished[0][1]
    return sentence + [tokenizer.pad_id] * (longest - len(sentence))
