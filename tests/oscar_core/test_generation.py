"""Decoding where the recorded cases leave a choice, and against plainer ways of doing it."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.decoding import textbook_beam_search
from oscar_core.beams import Hypotheses
from oscar_core.caption_memory import CaptionMemory, PlainCaptionSteps
from oscar_core.caption_packing import CaptionBatch, generation_layout, pack_prompts
from oscar_core.compat import GenerationCompat
from oscar_core.errors import GenerationError
from oscar_core.generation import NO_SENTENCE, GenerationSettings, generate
from oscar_core.models import CaptionModel
from oscar_core.packing import Layout
from oscar_core.tokens import Tokenizer
from oscar_core.word_choice import draw_words, filtered, penalised, uniforms_from
from tests.builders_core import make_config, make_inputs, make_tokenizer, seeded

LAYOUT = Layout(max_text=20, max_text_a=12, max_regions=4, pad_to_longest=True)


def make_model(seed: int = 0, *, size: int | None = None, dropout: float = 0.0) -> CaptionModel:
    seeded(seed)
    size = len(make_tokenizer()) if size is None else size
    return CaptionModel(make_config(vocabulary_size=size, hidden_dropout=dropout)).eval()


def make_prompts(
    tokenizer: Tokenizer, max_length: int = 7, *, num: int = 3, seed: int = 0
) -> CaptionBatch:
    inputs = make_inputs(num, seed=seed)
    return pack_prompts(inputs, tokenizer, generation_layout(LAYOUT, max_length))


def log_probability(
    model: CaptionModel, prompts: CaptionBatch, tokenizer: Tokenizer, row: int, ids: list[int]
) -> float:
    """Sum over the words of one sentence, each read from scratch."""
    steps = PlainCaptionSteps(model, prompts, tokenizer.mask_id)
    total = 0.0
    for length in range(1, len(ids)):
        so_far = torch.tensor([ids[:length]] * len(prompts))
        with torch.no_grad():
            log_p = steps.next_logits(so_far).log_softmax(dim=-1)
        total += log_p[row, ids[length]].item()
    return total


SETTINGS = st.builds(
    GenerationSettings,
    num_beams=st.integers(2, 4),
    num_kept=st.integers(1, 3),
    num_sequences=st.integers(1, 2),
    repetition_penalty=st.sampled_from([1.0, 1.7]),
    length_penalty=st.sampled_from([0.5, 1.0, 2.0]),
)


@settings(max_examples=12)
@given(SETTINGS, st.integers(0, 50))
def test_remembering_changes_no_beam_search(search: GenerationSettings, seed: int) -> None:
    tokenizer, model = make_tokenizer(), make_model(seed)
    prompts = make_prompts(tokenizer, seed=seed)
    remembered = generate(model, prompts, tokenizer, search)
    anew = generate(model, prompts, tokenizer, replace(search, is_cached=False))
    assert remembered.ids.tolist() == anew.ids.tolist()
    torch.testing.assert_close(
        remembered.log_probabilities, anew.log_probabilities, rtol=0, atol=1e-5
    )


@settings(max_examples=12)
@given(st.integers(0, 50), st.booleans())
def test_remembering_changes_no_single_search(seed: int, is_sampled: bool) -> None:
    tokenizer, model = make_tokenizer(), make_model(seed)
    prompts = make_prompts(tokenizer, seed=seed)
    found = [
        generate(
            model,
            prompts,
            tokenizer,
            GenerationSettings(num_beams=1, is_sampled=is_sampled, is_cached=is_cached),
            uniforms_from(seed),
        )
        for is_cached in (False, True)
    ]
    assert found[0].ids.tolist() == found[1].ids.tolist()


def test_the_original_remembers_in_the_old_order_and_so_decodes_differently() -> None:
    tokenizer = make_tokenizer()
    compat = GenerationCompat(keeps_memory_order=True)
    settings = GenerationSettings(num_beams=3)
    differs = False
    for seed in range(8):
        model, prompts = make_model(seed), make_prompts(tokenizer, 9, seed=seed)
        ours = generate(model, prompts, tokenizer, settings)
        theirs = generate(model, prompts, tokenizer, settings, compat=compat)
        differs |= not torch.allclose(ours.log_probabilities, theirs.log_probabilities, atol=1e-4)
    assert differs


@settings(max_examples=12)
@given(st.integers(0, 50), st.integers(2, 4), st.sampled_from([0.5, 1.0, 2.0]))
def test_beam_search_finds_what_the_textbook_finds(seed: int, beams: int, penalty: float) -> None:
    tokenizer, model = make_tokenizer(), make_model(seed)
    prompts = make_prompts(tokenizer, num=1, seed=seed)
    settings = GenerationSettings(num_beams=beams, length_penalty=penalty)
    found = generate(model, prompts, tokenizer, settings).ids[0, 0].tolist()
    assert found == textbook_beam_search(model, prompts, tokenizer, beams, penalty)


def test_a_search_stops_as_soon_as_the_textbook_does() -> None:
    """The longest sentence that counts has one word less than there are slots, [CLS] being one."""
    tokenizer = make_tokenizer()
    lengths = []
    for seed in range(25):
        model = make_model(seed)
        with torch.no_grad():
            model.word_head.bias[tokenizer.sep_id] += 3.0
        calls: list[int] = []
        model.word_head.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        prompts = make_prompts(tokenizer, 6, num=1, seed=seed)
        generate(model, prompts, tokenizer, GenerationSettings(num_beams=3))
        lengths.append(len(calls))
        textbook_beam_search(model, prompts, tokenizer, 3)
        assert len(calls) == 2 * lengths[-1]
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("seed", range(6))
def test_with_beams_for_everything_the_best_sentence_of_all_is_found(seed: int) -> None:
    tokenizer = make_tokenizer(("a", "b"))
    size = len(tokenizer)
    model = make_model(seed, size=size)
    prompts = make_prompts(tokenizer, 4, num=1, seed=seed)
    found = generate(model, prompts, tokenizer, GenerationSettings(num_beams=size**2))
    best = -math.inf
    log_p: dict[tuple[int, ...], float] = {(): 0.0}
    for length in (1, 2, 3):
        steps = PlainCaptionSteps(model, prompts, tokenizer.mask_id, len(log_p))
        told = torch.tensor([[tokenizer.cls_id, *words] for words in log_p])
        with torch.no_grad():
            gained = steps.next_logits(told).log_softmax(dim=-1)
        longer = {
            (*words, word): total + gained[row, word].item()
            for row, (words, total) in enumerate(log_p.items())
            for word in range(size)
        }
        ended = [words for words in longer if length == 3 or words[-1] == tokenizer.sep_id]
        best = max([best, *(longer[words] / length for words in ended)])
        log_p = {words: total for words, total in longer.items() if words not in ended}
    assert found.log_probabilities.item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("is_sampled", [False, True])
def test_the_score_of_a_sentence_is_the_mean_of_its_own_words(is_sampled: bool) -> None:
    """Sampled beams too: a word continues the beam that it was drawn for (C8)."""
    tokenizer = make_tokenizer()
    num_checked = 0
    for seed in range(6):
        model, prompts = make_model(seed), make_prompts(tokenizer, 8, seed=seed)
        settings = GenerationSettings(num_beams=3, num_kept=2, is_sampled=is_sampled)
        found = generate(model, prompts, tokenizer, settings, uniforms_from(seed))
        for row, kept in enumerate(found.ids.tolist()):
            for place, padded in enumerate(kept):
                ids = [word for word in padded if word != tokenizer.pad_id]
                if len(ids) == 8 or tokenizer.pad_id in padded[: len(ids)]:
                    continue  # its last word was replaced by the end
                total = log_probability(model, prompts, tokenizer, row, ids)
                score = found.log_probabilities[row, place].item()
                assert score == pytest.approx(total / (len(ids) - 1), abs=1e-4)
                num_checked += 1
    assert num_checked > 3


def test_the_original_gives_sampled_words_to_other_beams() -> None:
    tokenizer = make_tokenizer()
    compat = GenerationCompat(takes_parent_by_remainder=True)
    settings = GenerationSettings(num_beams=3, is_sampled=True)
    model, prompts = make_model(1), make_prompts(tokenizer, 9)
    ours = generate(model, prompts, tokenizer, settings, uniforms_from(1))
    theirs = generate(model, prompts, tokenizer, settings, uniforms_from(1), compat)
    assert ours.ids.tolist() != theirs.ids.tolist()


def test_sentences_that_were_not_found_are_empty_and_say_so() -> None:
    """With room for one word there is one sentence only: the empty one."""
    tokenizer = make_tokenizer()
    settings = GenerationSettings(num_beams=2, num_kept=4)
    prompts = make_prompts(tokenizer, 3, num=1)
    short = CaptionBatch(
        packed=prompts.packed, caption_slots=2, masked=prompts.masked, masked_ids=prompts.masked_ids
    )
    ours = generate(make_model(), short, tokenizer, settings)
    assert ours.ids[0].tolist() == [[tokenizer.cls_id, tokenizer.sep_id], [0, 0], [0, 0], [0, 0]]
    assert ours.log_probabilities[0, 1:].tolist() == [NO_SENTENCE] * 3
    compat = GenerationCompat(keeps_repeated_sentences=True)
    theirs = generate(make_model(), short, tokenizer, settings, compat=compat)
    assert theirs.ids[0].tolist() == [[tokenizer.cls_id, tokenizer.sep_id]] * 4
    assert theirs.log_probabilities[0, 0] == ours.log_probabilities[0, 0]


def test_a_repeated_sentence_stays_once_with_its_better_score() -> None:
    ours = Hypotheses(capacity=2, length_penalty=1.0)
    for total in (-4.0, -2.0, -3.0):
        ours.add((2, 7), total)
    assert [each.score for each in ours.best()] == [-1.0]
    assert ours.worst == -1.0
    theirs = Hypotheses(capacity=2, length_penalty=1.0, keeps_repeats=True)
    for total in (-4.0, -2.0, -3.0):
        theirs.add((2, 7), total)
    assert [each.score for each in theirs.best()] == [-1.0, -1.5]


def test_the_worst_sentence_gives_way_and_the_second_worst_becomes_the_bar() -> None:
    kept = Hypotheses(capacity=2, length_penalty=1.0)
    for word, total in ((1, -3.0), (2, -1.0), (3, -2.0)):
        kept.add((word,), total)
    assert [each.ids for each in kept.best()] == [(2,), (3,)]
    assert kept.worst == -2.0
    kept.add((4,), -2.0)  # no better than the worst
    assert [each.ids for each in kept.best()] == [(2,), (3,)]


def test_of_equal_sentences_the_earlier_comes_first() -> None:
    kept = Hypotheses(capacity=3, length_penalty=1.0)
    for word in (5, 4, 6):
        kept.add((word,), -1.0)
    assert [each.ids for each in kept.best()] == [(5,), (4,), (6,)]


def test_a_search_ends_when_the_longest_sentence_could_not_be_better() -> None:
    kept = Hypotheses(capacity=1, length_penalty=2.0)
    assert not kept.is_done(-100.0, 9)  # nothing found yet
    kept.add((2, 7), -4.0)
    assert kept.worst == -1.0
    assert kept.is_done(-81.0, 9)
    assert not kept.is_done(-80.9, 9)


def test_words_as_likely_as_the_last_allowed_one_may_be_drawn() -> None:
    kept = filtered(torch.tensor([[1.0, 3.0, 2.0, 2.0, 0.0]]), 2, 1.0)
    assert kept.isfinite().tolist() == [[False, True, True, True, False]]


def test_the_first_word_that_passes_the_share_stays() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert filtered(logits, 0, 0.79).isfinite().tolist() == [[True, True, False, False]]
    assert filtered(logits, 0, 0.81).isfinite().tolist() == [[True, True, True, False]]
    assert filtered(logits, 0, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_the_share_is_taken_of_what_the_count_has_left() -> None:
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert filtered(logits, 2, 0.5).isfinite().sum() == 1  # 4 / 7 passes at once
    assert filtered(logits, 0, 0.5).isfinite().sum() == 2


def test_beams_have_two_words_to_draw_and_three_by_share() -> None:
    logits = torch.tensor([[0.9, 0.05, 0.03, 0.02]]).log()
    assert filtered(logits, 1, 1.0, 2).isfinite().sum() == 2
    assert filtered(logits, 0, 0.1, 2).isfinite().sum() == 3  # C13
    assert filtered(logits, 1, 1.0).isfinite().sum() == 1


@given(st.integers(0, 200))
def test_drawn_words_differ_and_follow_the_cumulated_probability(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 6, generator=generator).masked_fill(
        torch.rand(4, 6, generator=generator) < 0.3, -torch.inf
    )
    logits[:, :2] = 0.0
    uniforms = torch.rand(4, 2, generator=generator, dtype=torch.float64)
    words = draw_words(logits, uniforms)
    left = logits.double().softmax(dim=-1)
    for row in range(4):
        share = 0.0
        for word in range(6):
            share += left[row, word].item()
            if share > uniforms[row, 0].item():
                break
        assert words[row, 0] == word
        assert words[row, 0] != words[row, 1]
        assert logits[row, words[row]].isfinite().all()


def test_rounding_at_the_upper_end_never_draws_a_forbidden_word() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    almost = torch.tensor([[1.0 - 1e-17]], dtype=torch.float64)
    assert draw_words(logits, almost).item() in (0, 1)


def test_greedy_search_ignores_the_temperature_and_the_filters() -> None:
    tokenizer, model = make_tokenizer(), make_model()
    prompts = make_prompts(tokenizer)
    plain = generate(model, prompts, tokenizer, GenerationSettings(num_beams=1))
    warm = GenerationSettings(num_beams=1, temperature=3.0, top_k=1, top_p=0.2)
    found = generate(model, prompts, tokenizer, warm)
    assert found.ids.tolist() == plain.ids.tolist()
    assert torch.equal(found.log_probabilities, plain.log_probabilities)


def test_a_held_word_becomes_less_likely_whatever_its_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    found = penalised(logits, torch.tensor([[0, 1, 0]]), 2.0)
    assert found.tolist() == [[1.0, -4.0, 1.0]]


def test_an_unfinished_sentence_is_closed_and_keeps_the_score_of_its_words() -> None:
    tokenizer = make_tokenizer()
    for seed in range(20):
        model, prompts = make_model(seed), make_prompts(tokenizer, 4, num=1)
        short = generate(model, prompts, tokenizer, GenerationSettings(num_beams=1))
        longer = generate(
            model, make_prompts(tokenizer, 9, num=1), tokenizer, GenerationSettings(num_beams=1)
        )
        ids = longer.ids[0, 0].tolist()
        if tokenizer.sep_id not in ids[:4]:
            break
    assert short.ids[0, 0].tolist() == [*ids[:3], tokenizer.sep_id]
    total = log_probability(model, prompts, tokenizer, 0, ids[:4])
    assert short.log_probabilities.item() == pytest.approx(total / 3, abs=1e-5)


def test_dropout_is_off_while_describing_and_the_mode_comes_back() -> None:
    tokenizer, model = make_tokenizer(), make_model(dropout=0.5)
    prompts = make_prompts(tokenizer)
    model.train()
    first = generate(model, prompts, tokenizer, GenerationSettings())
    second = generate(model, prompts, tokenizer, GenerationSettings())
    assert torch.equal(first.log_probabilities, second.log_probabilities)
    assert model.training


def test_images_do_not_look_at_one_another() -> None:
    tokenizer, model = make_tokenizer(), make_model(3)
    together = generate(model, make_prompts(tokenizer, num=3), tokenizer, GenerationSettings())
    alone = generate(model, make_prompts(tokenizer, num=1), tokenizer, GenerationSettings())
    assert together.ids[0].tolist() == alone.ids[0].tolist()


def test_texts_are_words_without_special_tokens() -> None:
    tokenizer, model = make_tokenizer(), make_model()
    found = generate(model, make_prompts(tokenizer), tokenizer, GenerationSettings())
    assert len(found.texts(tokenizer)) == 3
    assert not any("[" in text for row in found.texts(tokenizer) for text in row)


def test_the_same_seed_draws_the_same_numbers() -> None:
    first, second = uniforms_from(4), uniforms_from(4)
    assert torch.equal(first(2, 3), second(2, 3))
    assert not torch.equal(first(2, 3), uniforms_from(5)(2, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_beams": 0},
        {"num_kept": 0},
        {"temperature": 0.0},
        {"repetition_penalty": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"num_beams": 1, "num_kept": 2},
    ],
)
def test_settings_that_cannot_search_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(GenerationError):
        GenerationSettings(**wrong)  # type: ignore[arg-type]


def test_sampling_needs_random_numbers() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(GenerationError, match="uniforms_from"):
        generate(
            make_model(), make_prompts(tokenizer), tokenizer, GenerationSettings(is_sampled=True)
        )


def test_the_memory_is_not_copied_for_every_beam() -> None:
    """Tags and regions are remembered once an image."""
    tokenizer, model = make_tokenizer(), make_model()
    memory = CaptionMemory(model, make_prompts(tokenizer), tokenizer.mask_id, 4)
    seen: list[Tensor] = [layer.keys for layer in memory._context]
    assert all(len(keys) == 3 for keys in seen)
