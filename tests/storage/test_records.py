from dataclasses import replace

import numpy as np
import pytest

from storage.errors import RecordError
from tests.builders_storage import make_regions


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.copysign(np.nan, -1), np.inf, -np.inf])
@pytest.mark.parametrize("sign", [0, 1, -1])
def test_features_must_be_finite(dtype: type, value: float, sign: int) -> None:
    features = np.full((3, 8), sign, dtype)
    features[1, 2] = value
    with pytest.raises(RecordError, match="'photos/1': boxes or features hold NaN or infinity"):
        replace(make_regions(), features=features)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_largest_numbers_are_finite(dtype: type) -> None:
    largest = np.full((3, 8), np.finfo(dtype).max, dtype)
    assert replace(make_regions(), features=-largest).features.dtype == dtype
    tiny = np.full((3, 8), np.finfo(dtype).smallest_subnormal, dtype)
    replace(make_regions(), features=np.asfortranarray(tiny))


def test_boxes_must_be_finite() -> None:
    with pytest.raises(RecordError, match="NaN"):
        replace(make_regions(), boxes=np.full((3, 4), np.nan, np.float32))


def test_all_columns_speak_of_the_same_regions() -> None:
    with pytest.raises(RecordError, match="lengths"):
        replace(make_regions(), class_names=("dog",))
    with pytest.raises(RecordError, match=r"boxes must be \(N, 4\)"):
        replace(make_regions(), boxes=np.zeros((3, 5), np.float32))
