import numpy as np
import pytest
import torch
from PIL import Image

from detector.config import DetectorConfig, preset
from detector.preprocess import network_size, resize, to_model_images
from tests.builders_detector import photo, tiny_config


@pytest.mark.parametrize(
    ("height", "width", "wanted"),
    [
        (400, 600, (600, 900)),
        (600, 1300, (462, 1001)),  # the short side is rounded, so the long one may pass by 1
        (600, 700, (600, 700)),
        (480, 641, (600, 801)),  # cut, not rounded: 801.25
        (7, 20000, (1, 1000)),  # the original would ask for 0 pixels
        (20000, 7, (1000, 1)),
        (1, 1, (600, 600)),
    ],
)
def test_published_sizes(height: int, width: int, wanted: tuple[int, int]) -> None:
    assert network_size(height, width, min_size=600, max_size=1000) == wanted


def test_the_demo_takes_scenes_at_256_by_192() -> None:
    assert resize(photo(240, 320), preset("demo")).shape == (192, 256, 3)


def test_rows_are_resampled_first_where_the_height_shrinks_far_more() -> None:
    config = DetectorConfig(min_size=112, max_size=180)
    tall = np.random.default_rng(0).integers(0, 256, (301, 97, 3), dtype=np.uint8)
    halfway = Image.fromarray(tall).resize((97, 179), Image.Resampling.BILINEAR)
    wanted = halfway.resize((58, 179), Image.Resampling.BILINEAR)
    assert np.array_equal(resize(tall, config), np.asarray(wanted))


def test_channels_turn_around_and_lose_the_mean() -> None:
    config = tiny_config(min_size=8, max_size=8)
    red = np.zeros((8, 8, 3), dtype=np.uint8)
    red[..., 0] = 200
    pixels = to_model_images([red], config).pixels[0]
    assert pixels[:, 0, 0].tolist() == pytest.approx([-103.53, -116.28, 200 - 123.675], abs=1e-4)
    upright = tiny_config(min_size=8, max_size=8, channel_order="rgb", pixel_std=(2.0, 2.0, 2.0))
    pixels = to_model_images([red], upright).pixels[0]
    assert pixels[0, 0, 0] == pytest.approx((200 - 103.53) / 2, abs=1e-4)


def test_a_batch_pads_with_zeros_at_the_right_and_below() -> None:
    config = tiny_config()
    wide, tall = photo(48, 64), photo(64, 48)
    batch = to_model_images([wide, tall], config)
    assert batch.sizes == ((64, 85), (85, 64))
    assert batch.pixels.shape == (2, 3, 85, 85)
    assert torch.equal(batch.pixels[0, :, :64], to_model_images([wide], config).pixels[0])
    assert not batch.pixels[0, :, 64:].any()
    assert not batch.pixels[1, :, :, 64:].any()
