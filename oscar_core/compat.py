"""Where the original is wrong and we are right; every switch is off by default.

Switch one on to reproduce the original's numbers. The letters are those of the specifications'
quirk tables: Q of the model family, the others of the tasks.
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


OUR_PACKING = PackingCompat()
OUR_LOSSES = LossCompat()
OUR_GENERATION = GenerationCompat()
