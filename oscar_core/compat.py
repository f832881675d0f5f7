"""Where the original is wrong and we are right; every switch is off by default.

Switch one on to reproduce the original's numbers, in the settings of the task that has the quirk
(`packing_compat`, `loss_compat`, `generation_compat`; `compat` in pretraining and training). Two
belong to models of tasks that are not here, and are arguments: `cuts_text_of_next_image` of
`pack_pairs`, `scores_choices_with_two` of `ChoiceModel`. The letters are those of the
specifications' quirk tables: Q of the model family, the others of the tasks.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PackingCompat:
    """Quirks of laying out text and regions.

    Attributes:
        draws_one_past_vocabulary: C1, Q15. Original (`run_captioning.py:CaptionTensorizer`): the
            random replacement of a caption token is drawn from 0..V inclusive, V meaning [UNK].
            Ours: 0..V-1.
        shortens_masked_ids: Q19. Original: filled by `max_masked` minus the count asked for, so
            the row of masked ids is one short when every token should be masked but [CLS] cannot
            be. Ours: always `max_masked` long.
        overflows_with_tags: R1. Original (`run_retrieval.py:tensorize_example`): tags after a
            caption that fills the text are cut by a negative index, so the row is longer than
            allowed. Ours: no tags, and no second [SEP] either when there is no room for it.
        cuts_text_of_next_image: N2. Original (`run_nlvr.py`): the statement is cut in place for
            the tags of the first image and stays cut for the second. Ours: each by itself.
    """

    draws_one_past_vocabulary: bool = False
    shortens_masked_ids: bool = False
    overflows_with_tags: bool = False
    cuts_text_of_next_image: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCompat:
    """Quirks of pretraining samples; `oscar/datasets/oscar_tsv.py:OscarTSVDataset.__getitem__`.

    Attributes:
        keeps_same_image: Q10. Original: where ten draws all hit the same image, the last document
            is used and called a mismatch. Ours: another image is looked for; if there is none, the
            example is matched.
        keeps_equal_texts: Q11. Original: a wrong second text may say the same as the right one
            ("yes") and is called a mismatch. Ours: an equal or empty text is drawn again; if it
            stays equal, the example is matched.
        pollutes_unread_answers: Q12. Original: without a second text (`use_b` 0) the answer of a
            question row is exchanged all the same, and the row, where nothing changed, is called a
            mismatch. Ours: its question is exchanged.
        accepts_any_wrong_first: Q13. Original: a `wrong_first` above `mismatch` is accepted and
            works like `mismatch`. Ours: refused.
        draws_special_tokens: Q14. Original: a masked word may be replaced by [PAD], [CLS] or
            [unused1]. Ours: by ordinary wordpieces alone.
        spares_wrong_second_alone: Q17. Original: with `learns_mismatched` off only a wrong second
            text is spared, and it is left without masks, which tells that it is wrong. Ours: both
            texts of any mismatched example are masked but not learned.
        takes_own_answers: Q18. Original: with negatives "answers", another question of the same
            image gives the wrong answer. Ours: another image. (Without question rows the original
            crashes; ours refuses with a sentence.)
    """

    keeps_same_image: bool = False
    keeps_equal_texts: bool = False
    pollutes_unread_answers: bool = False
    accepts_any_wrong_first: bool = False
    draws_special_tokens: bool = False
    spares_wrong_second_alone: bool = False
    takes_own_answers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCompat:
    """Quirks of heads and losses.

    Attributes:
        gives_nan_without_masks: Q1. Original: the mean over no masked token is NaN and destroys
            the weights. Ours: that term is 0.
        reads_kl_by_3129: Q2, V2. Original (`ImageBertForSequenceClassification`): logits of the
            KL loss are reshaped to 3129 classes whatever the head has. Ours: its own number.
        scores_choices_with_two: Q3. Original (`OscarForMultipleChoice`): linear and mlp heads have
            2 outputs whatever `num_labels` says. Ours: `num_labels`.
        may_drop_every_word: Q8. Original (`BertCaptioningLoss`): of few words int(N * (1 - ratio))
            may be none, and the mean over none is NaN. Ours: at least one is kept.
    """

    gives_nan_without_masks: bool = False
    reads_kl_by_3129: bool = False
    scores_choices_with_two: bool = False
    may_drop_every_word: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationCompat:
    """Quirks of decoding.

    Attributes:
        keeps_memory_order: C7, Q35. Original (`modeling_bert.py:prepare_inputs_for_generation`):
            with a cache, only the newest position follows the beam it came from. Ours: all do,
            so that the cache changes nothing.
        takes_parent_by_remainder: C8. Original (`_generate_beam_search`): of the words drawn as
            (beam 0, beam 0, beam 1, ...) number j continues beam j mod num_beams. Ours: the beam
            it was drawn for, j // 2.
        keeps_repeated_sentences: C9. Original: where the length limit forces the end, one
            sentence may stand several times among the best. Ours: once, with its best score.
    """

    keeps_memory_order: bool = False
    takes_parent_by_remainder: bool = False
    keeps_repeated_sentences: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCompat:
    """Quirks of the training loops.

    Without a switch: Q7 (parts left over at the end of a pass flow into the next update; our
    batches run on from one pass into the next, nothing is left over), Q23 (a single process
    crashes at its first checkpoint), Q26 (a checkpoint between two parts loses their gradients;
    ours are written between updates), Q30 and Q31 (what the original prints). Q29 is
    `TrainingConfig.averaging`.

    Attributes:
        schedules_before_update: Q5. Original (fine-tuning scripts: `scheduler.step()` before
            `optimizer.step()`): update u has the rate of update u + 1, so that the last one of
            "linear" has rate 0. Ours: the order of `run_oscarplus_pretrain.py`.
        clips_every_part: Q6. Original (fine-tuning scripts): the gradients gathered so far are
            clipped after every part of a batch. Ours: once, before the update.
        counts_calls: Q8. Original (`BertCaptioningLoss`): words are dropped after so many calls
            of the loss in this process, parts of a batch included, from 0 after resuming. Ours:
            after so many updates, resumed ones included.
        repeats_order: Q9. Original (`run_captioning.py`: `set_epoch` is never called): every pass
            goes through the examples in the order of the first. Ours: each has its own.
        decays_head_norm: Q16. Original (`run_nlvr.py`: decay by name): the LayerNorm inside the
            classifier of the pair model is decayed. Ours: no LayerNorm is.
        replays_when_resumed: Q24. Original (`run_oscarplus_pretrain.py`): a resumed training
            begins the order of examples, their dice and dropout anew. Ours: goes on.
        shares_dropout: Q25. Original: all processes drop the same places. Ours: each its own.
        keeps_zero_gradients: Q34. Original (`zero_grad` of torch before 2): a parameter that once
            had a gradient is moved by momentum and decay in updates that do not use it. Ours: is
            left alone.
        overshoots_steps: Q36. Original (fine-tuning scripts, `--max_steps`): goes on to the end
            of the pass, with rate 0 if the schedule is "linear". Ours: `steps` are all.
    """

    schedules_before_update: bool = False
    clips_every_part: bool = False
    counts_calls: bool = False
    repeats_order: bool = False
    decays_head_norm: bool = False
    replays_when_resumed: bool = False
    shares_dropout: bool = False
    keeps_zero_gradients: bool = False
    overshoots_steps: bool = False


OUR_PACKING = PackingCompat()
OUR_SAMPLES = SampleCompat()
OUR_LOSSES = LossCompat()
OUR_GENERATION = GenerationCompat()
