"""X152-C4 at full size: the textbook's way, the exact engine and the fast one, in one run.

600 x 900, 300 proposals, 1594 classes, random weights under which classes stand out. Textbook:
eager float32 as the original computes (normalisation as a layer, a second pooling for attributes,
a suppression for each class). Each way's peak memory is that of a process of its own, weights read
from a file included. For AVX2 alone put before the command: ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.figure import Figure, peak_bytes
from benchmarks.reference.sane_weights import sane_weights
from benchmarks.reference.textbook import (
    multiplications,
    needed_multiplications,
    same_regions,
    see_by_the_book,
)
from detector.config import DetectorConfig, preset
from detector.engine import Engine
from detector.engines import prepare
from detector.engines.calibrate import calibrate
from detector.engines.openvino_graph import GraphBuilder
from detector.engines.processor import has_vnni
from detector.engines.quiet_openvino import openvino
from detector.engines.ranges import Range, Ranges
from detector.model import AttributeRCNN
from detector.preprocess import ModelImages, to_model_images
from detector.published.checkpoint_names import from_published
from detector.see import Detections, see
from detector.weights import load_weights
from storage.records import DecodedImage
from tests.locations import data_place

Way = Literal["textbook", "exact", "fast"]
WAYS: tuple[Way, ...] = ("textbook", "exact", "fast")
NUM_PHOTOS = 5
NUM_CALIBRATION = 4
SIZE = (900, 600)  # width, height; what the short side of 600 makes of a photo of 3 : 2
_NUM_TRIES = 30  # of a product whose best rate is asked for
STAGES = ("trunk", "rpn_head", "region_features", "the rest")


@dataclass(slots=True)
class Watched:
    """An engine whose parts are timed: seconds by stage, of one look."""

    engine: Engine
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def config(self) -> DetectorConfig:
        """Settings."""
        return self.engine.config

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        return self.engine.device

    @property
    def feature_width(self) -> int:
        """D."""
        return self.engine.feature_width

    def describe(self) -> str:
        """The engine's own word."""
        return self.engine.describe()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what passes to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def trunk(self, pixels: Tensor) -> Tensor:
        """Timed."""
        with self.timed("trunk"):
            return self.engine.trunk(pixels)

    def rpn_head(self, c4: Tensor) -> tuple[Tensor, Tensor]:
        """Timed."""
        with self.timed("rpn_head"):
            return self.engine.rpn_head(c4)

    def anchors(self, c4: Tensor) -> Tensor:
        """Not timed."""
        return self.engine.anchors(c4)

    def region_features(self, c4: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Timed."""
        with self.timed("region_features"):
            return self.engine.region_features(c4, boxes)

    def class_logits(self, features: Tensor) -> Tensor:
        """Not timed."""
        return self.engine.class_logits(features)

    def box_deltas(self, features: Tensor) -> Tensor:
        """Not timed."""
        return self.engine.box_deltas(features)

    def attribute_logits(self, features: Tensor, class_ids: Tensor) -> Tensor:
        """Not timed."""
        return self.engine.attribute_logits(features, class_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One photo seen: seconds of wall and processor, seconds by stage, what was found."""

    wall: float
    cpu: float
    stages: dict[str, float]
    found: list[Detections]


def measure() -> list[Figure]:
    """Each photo by every way in turn, after one unmeasured photo."""
    config = preset("x152c4")
    photos = _photos(NUM_PHOTOS + NUM_CALIBRATION)
    judged, others = photos[:NUM_PHOTOS], photos[NUM_PHOTOS:]
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        _write_weights(weights, config, others)
        model = _model(weights)
        ranges = calibrate(model, [_decoded(pixels) for pixels in others])
        ranges_of: dict[Way, Ranges | None] = {"textbook": None, "exact": None, "fast": ranges}
        peaks = {way: _in_a_process(way, weights, judged[0], ranges_of[way]) for way in WAYS}
    engines = {way: Watched(_engine(way, model, ranges_of[way])) for way in WAYS}
    looks: dict[Way, list[Look]] = {way: [] for way in WAYS}
    for number, pixels in enumerate((judged[0], *judged)):
        images = to_model_images([pixels], config)
        for way, engine in engines.items():
            look = _look(way, engine, images)
            if number > 0:
                looks[way].append(look)
    return [
        *_speed(looks, engines["fast"].describe()),
        _figure("fast_in_8_bits", [ranges.share], "share of products"),
        _figure("fast_likeness", [ranges.likeness], "cosine"),
        *_memory(peaks),
        *_bound(engines, looks),
    ]


def _speed(looks: dict[Way, list[Look]], fast: str) -> list[Figure]:
    figures = []
    for way in WAYS:
        figures.append(_figure(f"{way}_seconds", [look.wall for look in looks[way]], "s"))
        figures.append(_figure(f"{way}_cpu_seconds", [look.cpu for look in looks[way]], "s"))
        for stage in STAGES:
            seconds = [look.stages[stage] for look in looks[way]]
            figures.append(_figure(f"{way}.{stage.replace(' ', '_')}", seconds, "s"))
    for way in WAYS[1:]:
        pairs = list(zip(looks["textbook"], looks[way], strict=True))
        figures.append(_figure(f"{way}_ratio", [a.wall / b.wall for a, b in pairs], "x"))
        figures.append(_figure(f"{way}_cpu_ratio", [a.cpu / b.cpu for a, b in pairs], "x"))
    same = [
        same_regions(b.found, a.found)
        for a, b in zip(looks["textbook"], looks["exact"], strict=True)
    ]
    figures.append(_figure("exact_same_regions", same, "share"))
    return [*figures, _figure("fast_engine", [1.0], fast)]


def _memory(peaks: dict[Way, float]) -> list[Figure]:
    return [_figure(f"{way}_peak", [value], "MB") for way, value in peaks.items()]


def _bound(engines: dict[Way, Watched], looks: dict[Way, list[Look]]) -> list[Figure]:
    """What arithmetic allows: fewer products, and the rate of the best products here."""
    engine = engines["textbook"].engine
    cells = 38 * 57
    num_again = statistics.median(len(look.found[0].boxes) for look in looks["textbook"])
    num_regions = engine.config.post_nms_top_n
    textbook = multiplications(engine, cells, num_regions, int(num_again))
    needed = needed_multiplications(engine, cells, num_regions)
    rate, rate_in_8_bits = _best_rate(), _best_rate_in_8_bits()
    seconds = statistics.median(look.wall for look in looks["textbook"])
    return [
        _figure("textbook_products", [textbook], "GMAC"),
        _figure("exact_products", [needed], "GMAC"),
        _figure("fp32_fewer_products_allow", [textbook / needed], "x"),
        _figure("fp32_matrix_product", [rate], "GMAC/s"),
        _figure("fp32_peak_allows", [seconds / (needed / rate)], "x"),
        _figure("int8_convolution", [rate_in_8_bits], "GMAC/s"),
        _figure("int8_peak_allows", [seconds / (needed / rate_in_8_bits)], "x"),
    ]


def _best_rate() -> float:
    """Products a second of a large matrix product in float32, the best of many [10^9]."""
    first, second = torch.randn(2048, 2048), torch.randn(2048, 2048)
    packed = torch.ops.mkldnn._reorder_linear_weight(second, len(first))
    seconds = []
    for _ in range(_NUM_TRIES):
        start = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(first, packed, None, "none", [], "")
        seconds.append(time.perf_counter() - start)
    return 2048**3 / min(seconds) / 1e9


def _best_rate_in_8_bits() -> float:
    """Products a second of a large 1x1 convolution in 8 bits, the best of many [10^9]."""
    width, num_cells = 2048, 4096
    conv = nn.Conv2d(width, width, 1)
    known = {"conv": Range(low=0.0, high=1.0, means=(0.5,) * width)}
    builder = GraphBuilder({conv: "conv"}, known, 1 if has_vnni() else 2)
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERF_COUNT": True,  # the convolution alone, without what brings its input and output
    }
    graph = builder.map_convolution([conv], num_cells)
    request = openvino.Core().compile_model(graph, "CPU", options).create_infer_request()
    request.set_input_tensor(openvino.Tensor(torch.rand(num_cells, width).numpy()))
    seconds = []
    for _ in range(_NUM_TRIES):
        request.infer()
        [node] = [each for each in request.profiling_info if each.node_type == "Convolution"]
        assert node.exec_type.endswith("I8"), f"not in 8 bits: {node.exec_type}"
        seconds.append(node.real_time.total_seconds())
    return width**2 * num_cells / min(seconds) / 1e9


def _look(way: Way, engine: Watched, images: ModelImages) -> Look:
    """See one photo."""
    run: Callable[[Engine, ModelImages], list[Detections]] = (
        see_by_the_book if way == "textbook" else see
    )
    engine.seconds.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(engine, images)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stages = engine.seconds | {"the rest": wall - sum(engine.seconds.values())}
    return Look(wall=wall, cpu=cpu, stages=stages, found=found)


def _engine(way: Way, model: AttributeRCNN, ranges: Ranges | None) -> Engine:
    if way == "textbook":
        return model
    return prepare(model, way, ranges=ranges)


def _in_a_process(
    way: Way, weights: Path, pixels: NDArray[np.uint8], ranges: Ranges | None
) -> float:
    """Largest resident size of a process that loads the weights and sees one photo [MB]."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_of, way, weights, pixels, ranges).result()


def _peak_of(way: Way, weights: Path, pixels: NDArray[np.uint8], ranges: Ranges | None) -> float:
    engine = _engine(way, _model(weights), ranges)
    _look(way, Watched(engine), to_model_images([pixels], engine.config))
    return peak_bytes() / 1e6


def _write_weights(path: Path, config: DetectorConfig, photos: Sequence[NDArray[np.uint8]]) -> None:
    """Weights under our names."""
    anchors = AttributeRCNN(config).cell_anchors
    small = replace(config, min_size=224, max_size=400)  # to be quick
    named = from_published(sane_weights(small, *photos, seed=0), anchors)
    save_file({name: tensor.detach().contiguous() for name, tensor in named.items()}, path)


def _model(weights: Path) -> AttributeRCNN:
    model = AttributeRCNN(preset("x152c4"))
    load_weights(model, load_file(weights), weights.name)
    return model.eval()


def _photos(number: int) -> list[NDArray[np.uint8]]:
    """Real photos, brought to one size; (H, W, 3) RGB."""
    paths = sorted(data_place("real", "coco").glob("**/*.jpg"))[:number]
    return [np.asarray(Image.open(path).convert("RGB").resize(SIZE)) for path in paths]


def _decoded(pixels: NDArray[np.uint8]) -> DecodedImage:
    return DecodedImage(image_id="photo", pixels=pixels, content_hash="0" * 64)


def _figure(name: str, values: Sequence[float], unit: str) -> Figure:
    return Figure(
        name=f"detector.{name}",
        value=statistics.median(values),
        unit=unit,
        n=len(values),
        spread=max(values) - min(values),
    )
