"""Photos of every kind, and weights that are none: regions, or one clear line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector import load_detector
from detector.checkpoints import save_detector
from detector.config import RegionRules
from detector.detect import detect
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.torch_engine import TorchEngine
from detector.errors import CheckpointError, DetectorConfigError, DetectorError
from detector.load import Detector
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.see import see
from storage.published.label_maps import LabelMap
from tests.builders_detector import photo, tiny_config, tiny_model

LABELS = LabelMap(
    class_names=("__background__", *"abcde"), attribute_names=("__no_attribute__", *"pqrstuvw")
)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    folder = tmp_path_factory.mktemp("any") / "detector"
    save_detector(folder, tiny_model(), LABELS)
    return load_detector(folder, device="cpu")


def with_number(path: str, number: float) -> AttributeRCNN:
    """A model one of whose numbers is another."""
    model = tiny_model()
    with torch.no_grad():
        model.state_dict(keep_vars=True)[path].view(-1)[0] = number
    return model


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr", "I;16"])
def test_photos_of_every_kind_of_pixel_are_seen(
    detector: Detector, tmp_path: Path, mode: str
) -> None:
    image = Image.fromarray(photo(40, 60))
    if mode == "I;16":
        image = Image.fromarray((np.arange(2400, dtype=np.uint16) * 27).reshape(40, 60))
    else:
        image = image.convert(mode)
    path = tmp_path / f"photo.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
    image.save(path)
    (found,) = detector.detect([path])
    assert (found.height, found.width) == (40, 60)
    assert len(found.boxes) > 0
    assert np.isfinite(found.features).all()


@pytest.mark.parametrize("size", [(1, 1), (10, 10000), (10000, 10), (1, 30000)])
def test_photos_of_any_shape_keep_their_boxes_inside(
    detector: Detector, size: tuple[int, int]
) -> None:
    (found,) = detector.detect([np.full((*size, 3), 90, dtype=np.uint8)])
    assert len(found.boxes) > 0
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= [size[1], size[0]]).all()


def test_no_photos_have_no_regions_and_any_iterable_is_seen(detector: Detector) -> None:
    assert detector.detect([]) == []
    assert detect(detector.engine, [], detector.label_map) == []
    assert len(detector.detect(photo(seed=each) for each in range(2))) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["anchor_sizes", "aspect_ratios", "pixel_std", "box_weights"])
def test_settings_that_divide_by_nothing_are_refused(name: str) -> None:
    values = getattr(tiny_config(), name)
    for number in (0.0, -1.0, NAN, INF):
        with pytest.raises(DetectorConfigError, match=name):
            tiny_config(**{name: (*values[:-1], number)})


@pytest.mark.parametrize("name", ["score_threshold", "nms_overlap", "attribute_threshold"])
def test_thresholds_are_numbers(name: str) -> None:
    with pytest.raises(DetectorConfigError, match=name):
        RegionRules(**{name: NAN})


@pytest.mark.parametrize(
    ("path", "number", "message"),
    [
        ("box_head.class_logits.weight", NAN, "not finite"),
        ("rpn_head.logits.weight", INF, "not finite"),
        ("trunk.stem.norm1.running_var", 0.0, "a variance of 0"),
        ("trunk.stem.norm1.running_var", -1.0, "a variance of -1"),
    ],
)
def test_weights_without_sense_are_refused_by_name(
    tmp_path: Path, path: str, number: float, message: str
) -> None:
    save_detector(tmp_path / "detector", with_number(path, number), LABELS)
    with pytest.raises(CheckpointError, match=f"{path}.*{message}"):
        load_detector(tmp_path / "detector")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("box_head.class_logits.weight", NAN),
        ("attribute_head.hidden.weight", NAN),
        ("res5.blocks.0.conv3.weight", INF),
        ("rpn_head.deltas.bias", NAN),
    ],
)
@pytest.mark.parametrize("made", [prepare, lambda model: model])
def test_numbers_that_run_over_are_told_and_make_no_regions(
    path: str, number: float, made: Callable[[AttributeRCNN], Engine]
) -> None:
    model = with_number(path, number)
    with pytest.raises(DetectorError, match="not finite"):
        see(made(model), to_model_images([photo()], model.config))


def test_values_too_large_for_16_bits_are_told() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.trunk.stem.conv1.weight.mul_(3e3)
    images = to_model_images([photo()], model.config)
    assert len(see(TorchEngine(model, "cpu", torch.bfloat16), images)[0].boxes) > 0
    with pytest.raises(DetectorError, match="too large for 16 bits"):
        see(TorchEngine(model, "cpu", torch.float16), images)
