"""One photo through the detector, stage by stage: the textbook's way against ours."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.ops import nms

from benchmarks.figure import Figure, ratio, side_by_side, timing
from detector.boxes import clip, decode
from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules, preset
from detector.constants import PROPOSAL_WEIGHTS
from detector.folding import fold_norms
from detector.model import AttributeRCNN
from detector.postprocess import keep_regions
from detector.preprocess import ModelImages, resize, to_model_images
from detector.see import search, see
from storage.images import decode as decode_photo
from storage.records import ImageSource

NUM_RUNS = 3
NUM_PROPOSALS = 100
SHORT_SIDE = 240

Call = Callable[[], object]


@torch.inference_mode()
def measure() -> list[Figure]:
    """ResNet-50 C4 with VinVL's 1594 classes, random weights, a photo of 240 x 320.

    The textbook's whole photo refines boxes and pools them again for their attributes; ours keeps
    the proposals, as the published features do.
    """
    torch.manual_seed(0)
    config = replace(
        preset("r50c4"), min_size=SHORT_SIDE, max_size=640, post_nms_top_n=NUM_PROPOSALS
    )
    model = AttributeRCNN(config).eval()
    folded = fold_norms(model).to(memory_format=torch.channels_last)
    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    images = to_model_images([photo], model.config)
    c4 = folded.trunk(images.pixels)
    boxes = search(folded, c4, images.sizes)
    features = folded.region_features(c4, boxes)
    again = RegionRules(pool_attributes_again=True, regress_boxes=True)
    with TemporaryDirectory() as folder:
        sources = _write_photos(Path(folder), photo)
        pairs: dict[str, tuple[Call, Call]] = {
            "decode and resize 8 files": (
                lambda: [_prepare(source, model.config) for source in sources],
                lambda: _prepare_in_threads(sources, model.config),
            ),
            "trunk": (lambda: model.trunk(images.pixels), lambda: folded.trunk(images.pixels)),
            "proposals": (
                lambda: _propose_from_all(folded, c4, images),
                lambda: search(folded, c4, images.sizes),
            ),
            "pooling and last stage": (
                lambda: model.region_features(c4, boxes),
                lambda: folded.region_features(c4, boxes),
            ),
            "filter": (
                lambda: _filter_class_by_class(folded, features, boxes[0], images),
                lambda: _filter(folded, features, boxes[0], images),
            ),
            "whole photo": (
                lambda: see(model, images, rules=again),
                lambda: see(folded, images),
            ),
        }
        return _measured(pairs)


def _measured(pairs: Mapping[str, tuple[Call, Call]]) -> list[Figure]:
    figures: list[Figure] = []
    for name, (textbook, ours) in pairs.items():
        seconds = side_by_side({"textbook": textbook, "ours": ours}, n=NUM_RUNS)
        figures += [
            timing(f"{name}, textbook", seconds["textbook"]),
            timing(f"{name}, ours", seconds["ours"]),
            ratio(name, seconds["textbook"], seconds["ours"]),
        ]
    return figures


def _write_photos(folder: Path, photo: NDArray[np.uint8]) -> list[ImageSource]:
    """Eight JPEG files of one picture."""
    paths = [folder / f"{number}.jpg" for number in range(8)]
    for path in paths:
        Image.fromarray(photo).save(path)
    return [ImageSource(image_id=path.stem, path=path) for path in paths]


def _prepare(source: ImageSource, config: DetectorConfig) -> NDArray[np.uint8]:
    return resize(decode_photo(source).pixels, config)


def _prepare_in_threads(
    sources: Sequence[ImageSource], config: DetectorConfig
) -> list[NDArray[np.uint8]]:
    """As extraction reads ahead, with two threads; while the network computes it costs nothing."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda source: _prepare(source, config), sources))


def _propose_from_all(model: AttributeRCNN, c4: Tensor, images: ModelImages) -> Tensor:
    """Move and clip every anchor, then take the best."""
    logits, deltas = model.rpn_head(c4)
    scores = logits.permute(0, 2, 3, 1).reshape(-1).sigmoid()
    moves = deltas.permute(0, 2, 3, 1).reshape(-1, 4)
    boxes = clip(decode(model.anchors(c4), moves, PROPOSAL_WEIGHTS), *images.sizes[0])
    order = scores.argsort(descending=True)[: model.config.pre_nms_top_n]
    survivors = nms(boxes[order], scores[order], model.config.proposal_nms_overlap)
    return boxes[order[survivors[: model.config.post_nms_top_n]]]


def _filter_class_by_class(
    model: AttributeRCNN, features: Tensor, proposals: Tensor, images: ModelImages
) -> Tensor:
    """One suppression for each of the 1594 classes, as Faster R-CNN has it."""
    probabilities = model.box_head.class_logits(features).softmax(dim=1)
    best = torch.zeros(len(proposals))
    for class_id in range(1, probabilities.shape[1]):
        scores = probabilities[:, class_id]
        survivors = nms(clip(proposals, *images.sizes[0]), scores, 0.5)
        best[survivors] = torch.maximum(best[survivors], scores[survivors])
    return best.topk(model.config.regions.max_regions).indices


def _filter(
    model: AttributeRCNN, features: Tensor, proposals: Tensor, images: ModelImages
) -> object:
    logits = model.box_head.class_logits(features)
    config = model.config
    return keep_regions(logits, None, proposals, images.sizes[0], config, config.regions, Compat())
