"""The losses of pretraining, read without padding, against those of the padded pass."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from oscar_core.dice import PythonDice
from oscar_core.losses import NOT_A_TARGET
from oscar_core.models import PretrainingModel
from oscar_core.tasks.pretraining.collate import Batch, lay_out
from oscar_core.tasks.pretraining.dataset import examples, texts
from oscar_core.tasks.pretraining.records import Config
from oscar_core.tasks.pretraining.sample import make_sample
from oscar_core.tasks.pretraining.train import losses, num_targets
from oscar_core.tokens import Tokenizer, build_vocabulary
from oscar_core.views import ViewSettings
from tests.builders_core import make_config, seeded
from tests.builders_library import make_library

LIBRARY = make_library()
TOKENIZER = Tokenizer(build_vocabulary(texts(Config(), LIBRARY)))
CONFIG = Config(
    view=ViewSettings(max_regions=4), region_weight=0.5, contrast_weight=0.7, mask_probability=0.3
)


def make_batch(config: Config, num: int = 8) -> Batch:
    found = [examples(config, LIBRARY, "train")[i] for i in range(num)]
    samples = [
        make_sample(config, TOKENIZER, example, PythonDice(i)) for i, example in enumerate(found)
    ]
    return lay_out(config, TOKENIZER, found, samples)


def make_model(batch: Batch) -> PretrainingModel:
    seeded()
    width = batch.rows[0].packed.region_features.shape[2]
    sizes = make_config(vocabulary_size=len(TOKENIZER), region_feature_dim=width)
    return PretrainingModel(sizes).train()


def padded(config: Config, model: PretrainingModel, batch: Batch) -> Tensor:
    """The same objectives by the textbook: everything at every position, then a choice."""
    (rows,) = batch.rows
    encoded = model.encode(rows.packed)
    both = model.losses_of([encoded], [rows.word_labels], [rows.match_labels])
    regions = encoded.sequence[:, rows.packed.input_ids.shape[1] :]
    scores = model.word_head(regions, model.word_embedding).log_softmax(-1)
    told = rows.region_words
    right = scores.gather(2, told.clamp(min=0))[told != NOT_A_TARGET]
    named = -right.mean()
    return both.words + config.contrast_weight * both.contrast + config.region_weight * named


def gradients(model: PretrainingModel, total: Tensor) -> Mapping[str, Tensor]:
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    return {name: each for name, each in zip(names, found, strict=True) if each is not None}


def test_losses_and_gradients_are_those_of_the_padded_pass() -> None:
    batch = make_batch(CONFIG)
    model = make_model(batch)
    ours, textbook = losses(CONFIG, model, batch, 1).total, padded(CONFIG, model, batch)
    assert ours.item() == pytest.approx(textbook.item(), abs=1e-5)
    mine, theirs = gradients(model, ours), gradients(model, textbook)
    assert mine.keys() == theirs.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5)


def test_the_terms_add_up_and_are_means_over_what_is_counted() -> None:
    batch = make_batch(CONFIG)
    found = losses(CONFIG, make_model(batch), batch, 1)
    total = sum(term.item() for term in found.terms.values())
    assert total == pytest.approx(found.total.item(), abs=1e-5)
    (rows,) = batch.rows
    assert num_targets(CONFIG, batch) == {
        "words": int((rows.word_labels >= 0).sum()),
        "contrast": int((rows.match_labels >= 0).sum()),
        "regions": int((rows.region_words >= 0).sum()),
    }
    assert found.terms.keys() == num_targets(CONFIG, batch).keys()
