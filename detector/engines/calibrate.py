"""Measures on some photos what 8-bit arithmetic needs to know, and how far it may go.

A range reaches to the largest value met: what is cut off changes a few regions much, coarser steps
change all of them little. Errors grow from block to block, so the first blocks stay in float, as
many as the features of the regions need; most of the arithmetic is in the last ones.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.efficientnet_lite0 import InvertedBottleneck
from detector.engine import Engine
from detector.engines.processor import has_bfloat16
from detector.engines.ranges import LEAST_LIKENESS, Range, Ranges, digest_of
from detector.errors import DetectorConfigError
from detector.folding import fold_norms
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.resnext import Bottleneck
from detector.see import search
from storage.records import DecodedImage

NUM_PHOTOS = 8
_NUM_COMPARED = 2  # of them, which give no ranges but judge them
_NUM_REGIONS = 48  # of a photo that go through the last stage
_IN_FLOAT = ("trunk.stem", "rpn_head")
"""Parts that cost little and whose values count one by one; detections hang on their order."""
_MEAN_DIGITS = 5


class _Inputs:
    """What goes into one convolution."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.has_sign = False
        self.products = 0
        self.sums: Tensor | None = None
        self.num_cells = 0

    def add(self, conv: nn.Conv2d, values: Tensor) -> None:
        """Look at a map (B, C, h, w)."""
        low, high = (float(bound) for bound in torch.aminmax(values.detach()))
        self.largest = max(self.largest, high, -low)
        self.has_sign |= low < 0
        sums = values.detach().double().sum(dim=(0, 2, 3))
        self.sums = sums if self.sums is None else self.sums + sums
        self.num_cells += values[:, 0].numel()
        height = -(-values.shape[2] // conv.stride[0])
        width = -(-values.shape[3] // conv.stride[1])
        self.products += conv.weight.numel() * len(values) * height * width

    def range(self) -> Range:
        """The range that cuts nothing off."""
        assert self.sums is not None
        high = self.largest or 1.0
        low = -high if self.has_sign else 0.0
        means = (float(f"{mean:.{_MEAN_DIGITS}g}") for mean in self.sums / self.num_cells)
        return Range(low=low, high=high, means=tuple(min(max(mean, low), high) for mean in means))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    """A photo in float32.

    pixels:   (1, 3, H, W)
    boxes:    (R, 4) [network pixels]
    features: (R, D)
    """

    pixels: Tensor
    boxes: Tensor
    features: Tensor


@torch.inference_mode()
def calibrate(
    model: AttributeRCNN,
    photos: Sequence[DecodedImage],
    *,
    least_likeness: float = LEAST_LIKENESS,
    report: Callable[[str], None] = lambda line: None,
) -> Ranges:
    """Ranges of a detector; the same photos in the same order give the same ranges.

    Args:
        model: In evaluation mode; stays as it is.
        photos: Some that are like those to come; `NUM_PHOTOS` are enough. The last ones judge;
            one alone judges what was measured on it.
        least_likeness: What blocks are left in float for; 0 leaves none.
        report: Is told in a line what was just done.

    Raises:
        DetectorConfigError: There are no photos.
    """
    if not photos:
        raise DetectorConfigError("calibration needs photos; give at least one that can be read")
    num_judging = min(_NUM_COMPARED, len(photos) // 2)
    folded = fold_norms(model)
    first_judging = len(photos) - num_judging

    def examples_of(some: Sequence[DecodedImage], num_before: int) -> list[_Example]:
        found = []
        for number, photo in enumerate(some, num_before + 1):
            found.append(_example(folded, photo))
            report(f"seen in float32: {number} of {len(photos)} photos")
        return found

    with _watched(folded) as inputs:
        examples = examples_of(photos[:first_judging], 0)
    if num_judging:
        examples = examples_of(photos[first_judging:], first_judging)
    whole = Ranges(
        by_convolution={
            name: each.range() for name, each in inputs.items() if not name.startswith(_IN_FLOAT)
        },
        weights_digest=digest_of(model),
        num_photos=len(photos),
    )
    if find_spec("openvino") is None:
        return whole
    whole = replace(whole, likeness_bf16=_likeness_in_16_bits(model, whole, examples))
    found = _as_much_as_stands(model, whole, examples, least_likeness, report)
    num_rounded = sum(inputs[name].products for name in found.by_convolution)
    return replace(found, share=num_rounded / sum(each.products for each in inputs.values()))


def spread_out(boxes: Tensor, number: int) -> Tensor:
    """At most `number` boxes, evenly spread over the list; (n, 4) -> (m, 4)."""
    return boxes[:: max(1, -(-len(boxes) // number))]


def likeness_of(engine: Engine, examples: Sequence[_Example]) -> float:
    """Mean cosine of region features of the same boxes, over all regions of all photos."""
    found = []
    for example in examples:
        features = engine.region_features(engine.trunk(example.pixels), [example.boxes])
        found.append(functional.cosine_similarity(example.features, features, dim=1))
    return float(torch.cat(found).mean())


def _example(model: AttributeRCNN, photo: DecodedImage) -> _Example:
    images = to_model_images([photo.pixels], model.config)
    c4 = model.trunk(images.pixels)
    boxes = spread_out(search(model, c4, images.sizes)[0], _NUM_REGIONS)
    return _Example(pixels=images.pixels, boxes=boxes, features=model.region_features(c4, [boxes]))


def _likeness_in_16_bits(
    model: AttributeRCNN, ranges: Ranges, examples: Sequence[_Example]
) -> float:
    """Of bfloat16 everywhere; 0 where the processor has none."""
    from detector.engines.openvino_engine import OpenVinoEngine

    if not has_bfloat16():
        return 0.0
    return likeness_of(OpenVinoEngine(model, "bf16", ranges=ranges), examples)


def _as_much_as_stands(
    model: AttributeRCNN,
    whole: Ranges,
    examples: Sequence[_Example],
    least_likeness: float,
    report: Callable[[str], None],
) -> Ranges:
    """Ranges without the fewest first blocks that bring the likeness to what is asked for.

    The number is found by halving. All blocks, if not even the last one alone reaches it.
    """
    from detector.engines.openvino_engine import OpenVinoEngine

    blocks = _blocks(model, whole)

    def after(number: int) -> Ranges:
        names = [name for block in blocks[number:] for name in block]
        ranges = replace(whole, by_convolution={name: whole.by_convolution[name] for name in names})
        engine = OpenVinoEngine(model, "int8", ranges=ranges)
        likeness = likeness_of(engine, examples)
        report(f"8 bits from block {number + 1} of {len(blocks)} on: likeness {likeness:.5f}")
        return replace(ranges, likeness=likeness)

    found = after(0)
    if found.likeness >= least_likeness:
        return found
    too_few, enough = 0, len(blocks)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = after(middle)
        if not tried.likeness >= least_likeness:
            too_few = middle
        else:
            enough, found = middle, tried
    return found


def _blocks(model: AttributeRCNN, ranges: Ranges) -> list[list[str]]:
    """Names of the convolutions of each block, in the order in which a photo meets them."""
    kinds = (Bottleneck, InvertedBottleneck)
    blocks = [name for name, each in model.named_modules() if isinstance(each, kinds)]
    found: dict[str, list[str]] = {}
    for name in ranges.by_convolution:
        block = next((each for each in blocks if name.startswith(f"{each}.")), name)
        found.setdefault(block, []).append(name)
    return list(found.values())


@contextmanager
def _watched(model: AttributeRCNN) -> Iterator[dict[str, _Inputs]]:
    """Inputs of all convolutions in their order, filled while the model is used."""
    seen: dict[str, _Inputs] = {}
    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda conv, inputs, name=name: seen.setdefault(name, _Inputs()).add(
                        conv, inputs[0]
                    )
                )
            )
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
