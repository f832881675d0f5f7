from typing import Any

import pytest
import torch

from benchmarks.reference.textbook import (
    multiplications,
    needed_multiplications,
    same_regions,
    see_by_the_book,
)
from detector.config import DetectorConfig
from detector.engines import prepare
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.see import see
from tests.builders_detector import photo, tiny_model


@pytest.mark.parametrize("changes", [{}, {"blocks": (2, 1, 2), "res5_blocks": 2}])
def test_the_textbook_finds_what_we_find(changes: dict[str, Any]) -> None:
    model = tiny_model(**changes)
    images = to_model_images([photo(seed=5)], model.config)
    (wanted,) = see_by_the_book(model, images)
    for engine in (model, prepare(model)):
        (found,) = see(engine, images)
        assert same_regions([found], [wanted]) == 1
        torch.testing.assert_close(found.scores, wanted.scores)
        torch.testing.assert_close(found.features, wanted.features, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            found.attribute_logits, wanted.attribute_logits, rtol=1e-3, atol=1e-3
        )


def test_products_are_those_of_the_specification() -> None:
    with torch.device("meta"):
        model = AttributeRCNN(DetectorConfig())
    assert multiplications(model, 38 * 57, 300, 0) == pytest.approx(784.1, abs=0.1)
    saved = multiplications(model, 38 * 57, 300, 36) - needed_multiplications(model, 38 * 57, 300)
    assert saved == pytest.approx(154.1 - 9.1 + 61.7, abs=0.3)
