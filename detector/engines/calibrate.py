"""Measures on some photos which values go into each convolution.

Values are counted by the leading bits of their float32, in bins 1/64 of the value wide, so one pass
over the photos is enough whatever the range. From the counts the limit with the least squared error
of 8-bit rounding is taken: a few far values do not make all others coarse.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.engines.ranges import Range, Ranges, digest_of
from detector.errors import DetectorConfigError
from detector.folding import fold_norms
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.see import search
from storage.records import DecodedImage

NUM_PHOTOS = 8
"""Photos after which ranges hardly move any more (docs/fast.md)."""
_NUM_COMPARED = 2  # photos that float32 and 8 bits are compared on
_NUM_REGIONS = 48  # of a photo that go through the last stage
_MOST_VALUES = 1 << 18  # of one map that are counted; evenly spread over it
_KEPT_BITS = 14  # of 31: exponent and 6 bits of mantissa
_NUM_CANDIDATES = 96
_LEVELS = {False: 255, True: 127}  # steps from 0 to the limit; fewer where there is a sign


class _Histogram:
    """Absolute values of what goes into one convolution."""

    def __init__(self) -> None:
        self.counts = torch.zeros(1 << _KEPT_BITS, dtype=torch.float64)
        self.largest = 0.0
        self.has_sign = False

    def add(self, values: Tensor) -> None:
        """Count a map; its largest value is found among all."""
        flat = values.detach().flatten()
        low, high = (float(bound) for bound in torch.aminmax(flat))
        self.largest = max(self.largest, high, -low)
        self.has_sign |= low < 0
        step = max(1, -(-len(flat) // _MOST_VALUES)) | 1  # odd: meets every channel
        bins = flat[::step].abs().contiguous().view(torch.int32) >> (31 - _KEPT_BITS)
        self.counts += torch.bincount(bins, minlength=1 << _KEPT_BITS)

    def range(self) -> Range:
        """The range with the least squared error."""
        if self.largest == 0.0:
            return Range(low=0.0, high=1.0)
        middles = (torch.arange(1 << _KEPT_BITS, dtype=torch.int32) << (31 - _KEPT_BITS)).view(
            torch.float32
        ).double() * (1 + 2.0**-7)
        is_met = self.counts > 0
        values, counts = middles[is_met], self.counts[is_met]
        limits = self.largest * torch.linspace(0.2, 1.0, _NUM_CANDIDATES, dtype=torch.float64)
        is_cut = values > limits[:, None]
        rounding = ((limits / _LEVELS[self.has_sign]) ** 2 / 12)[:, None].expand(is_cut.shape)
        errors = torch.where(is_cut, (values - limits[:, None]) ** 2, rounding) @ counts
        high = float(limits[errors.argmin()])
        return Range(low=-high if self.has_sign else 0.0, high=high)


@torch.inference_mode()
def calibrate(model: AttributeRCNN, photos: Sequence[DecodedImage]) -> Ranges:
    """Ranges of a detector; the same photos in the same order give the same ranges.

    Args:
        model: In evaluation mode; stays as it is.
        photos: Some that are like those to come; `NUM_PHOTOS` are enough.

    Raises:
        DetectorConfigError: There are no photos.
    """
    if not photos:
        raise DetectorConfigError("calibration needs photos; give at least one that can be read")
    folded = fold_norms(model)
    with _watched(folded) as histograms:
        for photo in photos:
            images = to_model_images([photo.pixels], model.config)
            c4 = folded.trunk(images.pixels)
            boxes = search(folded, c4, images.sizes)
            folded.region_features(c4, [spread_out(boxes[0], _NUM_REGIONS)])
    ranges = Ranges(
        by_convolution={name: each.range() for name, each in histograms.items()},
        weights_digest=digest_of(model),
        num_photos=len(photos),
    )
    return replace(ranges, likeness=_likeness(model, ranges, photos[-_NUM_COMPARED:]))


def _likeness(model: AttributeRCNN, ranges: Ranges, photos: Sequence[DecodedImage]) -> float:
    """Mean cosine of region features of the same boxes, 8 bits against float32."""
    if find_spec("openvino") is None:
        return 0.0
    from detector.engines.openvino_engine import OpenVinoEngine

    folded = fold_norms(model)
    in_8_bits = OpenVinoEngine(model, "int8", ranges=ranges)
    found = []
    for photo in photos:
        images = to_model_images([photo.pixels], model.config)
        c4 = folded.trunk(images.pixels)
        boxes = [spread_out(search(folded, c4, images.sizes)[0], _NUM_REGIONS)]
        features = folded.region_features(c4, boxes)
        rounded = in_8_bits.region_features(in_8_bits.trunk(images.pixels), boxes)
        found.append(functional.cosine_similarity(features, rounded, dim=1))
    return float(torch.cat(found).mean())


def spread_out(boxes: Tensor, number: int) -> Tensor:
    """At most `number` boxes, evenly spread over the list; (n, 4) -> (m, 4)."""
    return boxes[:: max(1, -(-len(boxes) // number))]


@contextmanager
def _watched(model: AttributeRCNN) -> Iterator[dict[str, _Histogram]]:
    """Histograms of the inputs of all convolutions, filled while the model is used."""
    histograms: dict[str, _Histogram] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            histogram = histograms.setdefault(name, _Histogram())
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda _, inputs, histogram=histogram: histogram.add(inputs[0])
                )
            )
    try:
        yield histograms
    finally:
        for hook in hooks:
            hook.remove()
