import numpy as np
import pytest
import torch
from PIL import Image

from detector.config import DetectorConfig, preset
from detector.preprocess import network_size, resize, to_batch, to_model_images, whole_cells
from tests.builders_detector import photo, tiny_config, tiny_model


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


@pytest.mark.parametrize("trunk", ["resnet_c4", "efficientnet_lite0"])
def test_whole_cells_are_as_many_as_without_padding(trunk: str) -> None:
    model = tiny_model(trunk=trunk)
    for size in ((64, 85), (64, 80), (65, 96), (1, 49)):
        pixels, outer = np.full((*size, 3), 200, dtype=np.uint8), whole_cells(*size, model.config)
        plain = to_batch([pixels], [size], model.config)
        padded = to_batch([pixels], [size], model.config, pads=True)
        assert padded.sizes == plain.sizes == (size,)
        assert padded.pixels.shape[2:] == outer
        assert 0 <= outer[0] - size[0] < 16 > outer[1] - size[1] >= 0
        assert torch.equal(padded.pixels[:, :, : size[0], : size[1]], plain.pixels)
        assert padded.pixels.count_nonzero() == plain.pixels.count_nonzero()
        with torch.no_grad():
            shapes = [model.trunk(each.pixels).shape for each in (plain, padded)]
        assert shapes[0] == shapes[1]
