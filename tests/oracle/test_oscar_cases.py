"""What recorded inputs may lack is what the original then takes."""

import pytest
import torch

from oscar_core.models import PretrainingModel
from tests.builders_core import make_config, seeded
from tests.oracle.oscar_cases import batch_of

WIDTH = 8


@pytest.mark.parametrize("left_out", ["token_type_ids", "attention_mask", "position_ids"])
def test_what_is_left_out_is_the_default(left_out: str) -> None:
    seeded()
    model = PretrainingModel(make_config(region_feature_dim=WIDTH)).eval()
    given = {
        "input_ids": torch.randint(5, 18, (2, 6)),
        "token_type_ids": torch.zeros(2, 6, dtype=torch.int64),
        "attention_mask": torch.ones(2, 9),
        "position_ids": torch.arange(6).expand(2, 6),
        "img_feats": torch.randn(2, 3, WIDTH),
    }
    whole = model(batch_of(given, WIDTH))
    without = model(batch_of({k: v for k, v in given.items() if k != left_out}, WIDTH))
    assert all(torch.equal(one, other) for one, other in zip(whole, without, strict=True))


def test_without_regions_there_is_the_text_alone() -> None:
    seeded()
    model = PretrainingModel(make_config(region_feature_dim=WIDTH)).eval()
    text = {"input_ids": torch.randint(5, 18, (2, 6))}
    hidden = torch.cat([torch.ones(2, 6), torch.zeros(2, 1)], dim=1)
    unseen = text | {"attention_mask": hidden, "img_feats": torch.randn(2, 1, WIDTH)}
    words, _ = model(batch_of(text, WIDTH))
    assert words.shape[1] == 6
    torch.testing.assert_close(words, model(batch_of(unseen, WIDTH))[0][:, :6])


def test_choices_become_rows() -> None:
    inputs = {"input_ids": torch.ones(2, 3, 4, dtype=torch.int64)}
    packed = batch_of(inputs, WIDTH)
    assert packed.input_ids.shape == (6, 4)
    assert packed.attention_mask.shape == (6, 4)
    assert packed.region_features.shape == (6, 0, WIDTH)
