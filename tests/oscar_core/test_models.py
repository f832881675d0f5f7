"""Models where the recorded cases leave a choice."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from oscar_core.attention import additive_mask
from oscar_core.compat import LossCompat
from oscar_core.encoder import OscarEncoder
from oscar_core.errors import ModelConfigError
from oscar_core.heads import AnswerHead
from oscar_core.losses import cross_entropy
from oscar_core.models import (
    CaptionModel,
    ChoiceModel,
    ClassifierModel,
    PairModel,
    PretrainingModel,
)
from oscar_core.packing import Layout, PackedBatch, pack
from tests.builders_core import make_config, make_inputs, make_tokenizer, seeded

LAYOUT = Layout(max_text=16, max_regions=4)
HEAD = AnswerHead(num_labels=3)


def make_batch(num: int = 4, seed: int = 0) -> PackedBatch:
    return pack(make_inputs(num, seed=seed), make_tokenizer(), LAYOUT)


class Recorder(nn.Module):
    """Passes values on and remembers their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, values: Tensor) -> Tensor:
        self.shapes.append(tuple(values.shape))
        return values


def test_both_layer_norms_have_their_own_epsilon() -> None:
    seeded()
    model = OscarEncoder(make_config(layer_norm_eps=1e-12, region_norm_eps=0.5))
    assert model.region_norm is not None
    assert model.region_norm.eps == 0.5
    assert model.embeddings.LayerNorm.eps == 1e-12
    rows = torch.randn(1, 2, 11)
    projected = model.region_projection(rows)
    centred = projected - projected.mean(dim=-1, keepdim=True)
    expected = centred / (centred.square().mean(dim=-1, keepdim=True) + 0.5).sqrt()
    torch.testing.assert_close(model.embed_regions(rows), expected)


def test_a_layer_drops_its_two_outputs() -> None:
    model = OscarEncoder(make_config(hidden_dropout=1.0)).train()
    layer, states = model.each_layer()[0], torch.randn(2, 5, 16)
    finished = model.finish_layer(layer, states, states)
    only_norms = layer.output.LayerNorm(layer.attention.output.LayerNorm(states))
    torch.testing.assert_close(finished, only_norms)


@pytest.mark.parametrize(
    "model",
    [
        ClassifierModel(make_config(), HEAD),
        PairModel(make_config(), HEAD),
        ChoiceModel(make_config(), HEAD),
    ],
    ids=["classifier", "pair", "choice"],
)
def test_the_pooled_vector_is_dropped_before_every_classifier(model: nn.Module) -> None:
    model.dropout = recorder = Recorder()
    model.eval()(make_batch())
    assert recorder.shapes == [(4, 16)]


def test_looking_up_padding_gives_its_row_no_gradient() -> None:
    model = OscarEncoder(make_config())
    ids = torch.zeros(1, 3, dtype=torch.int64)
    model(ids, None, torch.ones(1, 3), None).pooled.sum().backward()
    gradient = model.embeddings.word_embeddings.weight.grad
    assert gradient is not None
    assert not gradient.any()


def test_the_tied_projection_still_teaches_the_row_of_padding() -> None:
    model = PretrainingModel(make_config())
    words, _ = model(make_batch())
    words[..., 0].sum().backward()
    gradient = model.word_embedding.grad
    assert gradient is not None
    assert gradient[0].any()


def test_contrast_labels_of_minus_one_are_left_out() -> None:
    model = PretrainingModel(make_config()).eval()
    batch = make_batch()
    nothing = torch.full((4, batch.attention_mask.shape[1]), -1)
    some = model.losses(batch, nothing, torch.tensor([1, -1, -1, 2]))
    alone = model.losses(batch.rows(torch.tensor([0, 3])), nothing[:2], torch.tensor([1, 2]))
    assert some.contrast.item() == pytest.approx(alone.contrast.item(), rel=1e-5)
    assert some.words.item() == 0.0


def test_words_are_scored_where_labelled_as_if_scored_everywhere() -> None:
    """A label of 0 ([PAD] written in a text) is a label like any other."""
    model = PretrainingModel(make_config()).eval()
    batch = make_batch()
    labels = torch.full(batch.attention_mask.shape, -1)
    labels[:, 1], labels[1, 2] = 0, 7
    losses = model.losses(batch, labels, torch.zeros(4, dtype=torch.int64))
    everywhere = cross_entropy(model(batch)[0], labels)
    assert losses.words.item() == pytest.approx(everywhere.item(), rel=1e-5)


def test_batches_of_different_lengths_share_one_mean() -> None:
    model = PretrainingModel(make_config()).eval()
    batch = make_batch()
    labels = torch.full(batch.attention_mask.shape, -1)
    labels[:, 1], labels[1, 2] = 5, 7
    contrast = torch.tensor([0, 1, -1, 2])
    rows = [torch.tensor([1]), torch.tensor([0, 2, 3])]
    whole = model.losses(batch, labels, contrast)
    parts = model.losses_of(
        [model.encode(batch.rows(chosen)) for chosen in rows],
        [labels[chosen] for chosen in rows],
        [contrast[chosen] for chosen in rows],
    )
    assert parts.words.item() == pytest.approx(whole.words.item(), rel=1e-5)
    assert parts.contrast.item() == pytest.approx(whole.contrast.item(), rel=1e-5)
    reordered = whole.contrast_logits[torch.cat(rows)]
    torch.testing.assert_close(parts.contrast_logits, reordered, rtol=0, atol=1e-5)


def test_every_choice_is_scored_with_as_many_labels_as_asked() -> None:
    assert ChoiceModel(make_config(), HEAD)(make_batch()).shape == (4, 3)
    compat = LossCompat(scores_choices_with_two=True)
    assert ChoiceModel(make_config(), HEAD, compat)(make_batch()).shape == (4, 2)


def test_a_pair_is_judged_by_both_images_in_order() -> None:
    seeded()
    model = PairModel(make_config(), HEAD).eval()
    batch = make_batch()
    swapped = batch.rows(torch.tensor([1, 0, 3, 2]))
    assert model(batch).shape == (2, 3)
    assert not torch.allclose(model(batch), model(swapped))


def test_layer_norm_stands_in_the_pair_head_only_with_normed_regions() -> None:
    head = replace(HEAD, kind="mlp")
    normed = PairModel(make_config(), head).classifier
    plain = PairModel(make_config(has_region_norm=False), head).classifier
    assert isinstance(normed, nn.Sequential)
    assert isinstance(plain, nn.Sequential)
    assert (len(normed), len(plain)) == (4, 3)


def test_a_frozen_tied_embedding_freezes_the_projection_too() -> None:
    model = CaptionModel(make_config(), freezes_embedding=True)
    model(make_batch()).sum().backward()
    assert model.word_embedding.grad is None
    assert model.word_head.bias.grad is not None
    assert "word_head.decoder.weight" not in model.state_dict()


def test_a_frozen_untied_embedding_leaves_the_projection_free() -> None:
    model = CaptionModel(make_config(), is_tied=False, freezes_embedding=True)
    assert model.word_head.decoder is not None
    assert torch.equal(model.word_head.decoder.weight, model.word_embedding)
    model(make_batch()).sum().backward()
    assert model.word_embedding.grad is None
    assert model.word_head.decoder.weight.grad is not None


def test_new_weights_have_the_asked_spread_and_plain_biases() -> None:
    seeded()
    model = CaptionModel(make_config(hidden_size=64, num_heads=4, initializer_range=0.05))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name.lower():
            assert (parameter == 1).all(), name
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.1), name


def test_a_mask_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="attention mask"):
        additive_mask(torch.ones(2, 1, 1, 3), torch.float32)


@pytest.mark.parametrize("wrong", [{"num_labels": 0}, {"num_labels": 2, "hidden_scale": 0}])
def test_heads_without_outputs_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelConfigError):
        AnswerHead(**wrong)  # type: ignore[arg-type]
