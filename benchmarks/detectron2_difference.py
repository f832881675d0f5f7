"""Ours beside a real detectron2: the same full-size weights, stage by stage.

python -m benchmarks detectron2_difference --detectron2 FOLDER [--packages FOLDER] PHOTO ...

detectron2 is a source tree, which needs no compiling, or installed. It builds the network with
our parts (`detector.published.detectron2_parts`), or for --conventions detectron2 with its own
anchors, proposals and pooling, as its model zoo has them.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.figure import machine
from benchmarks.reference.comparison import Difference, differences
from benchmarks.reference.sane_weights import sane_weights
from benchmarks.reference.table import ENGINES, engines_of, table_of, write_tables
from detector.config import PRESETS, DetectorConfig
from detector.model import AttributeRCNN
from detector.preprocess import to_model_images
from detector.published.checkpoint_names import from_published
from detector.weights import load_weights

_SMALL = {"min_size": 224, "max_size": 400}  # to be quick


def main(arguments: Sequence[str]) -> int:
    """See every photo with both and print the differences."""
    options = _options(arguments)
    folders = [folder for folder in (options.detectron2, options.packages) if folder]
    for folder in folders:
        if not folder.is_dir():
            print(f"error: {folder}: no such folder", file=sys.stderr)
            return 2
    sys.path[:0] = map(str, folders)
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    photos = [np.asarray(Image.open(photo).convert("RGB")) for photo in options.photos]
    config = replace(PRESETS[options.preset], conventions=options.conventions)
    model = AttributeRCNN(config)
    tensors = _weights(config, photos, options.weights)
    load_weights(model, from_published(tensors, model.cell_anchors), "random weights")
    tables = _compare(model.eval(), photos, options)
    if options.json:
        write_tables(options.json, tables)
    return 0


def _compare(
    model: AttributeRCNN, photos: Sequence[NDArray[np.uint8]], options: argparse.Namespace
) -> dict[str, dict[str, list[Difference]]]:
    """Photo -> engine -> rows, printed as they come."""
    from benchmarks.reference.detectron2 import detectron2_stages
    from detector.published.detectron2_model import build_detectron2

    built = build_detectron2(model)
    engines = engines_of(model, options.engines)
    print(f"{machine()}\n{options.preset}, conventions of {options.conventions}", flush=True)
    tables = {}
    for photo, pixels in zip(options.photos, photos, strict=True):
        theirs = detectron2_stages(built, to_model_images([pixels], model.config), model.config)
        rules = model.config.regions
        tables[photo.name] = {
            name: list(differences(engine, pixels, theirs, rules))
            for name, engine in engines.items()
        }
        print(f"\n{photo.name}\n{table_of(tables[photo.name])}", flush=True)
    return tables


def _weights(
    config: DetectorConfig, photos: Sequence[NDArray[np.uint8]], kept: Path | None
) -> dict[str, Tensor]:
    """Random weights that behave; no box of the background, which detectron2 does not have."""
    if kept is not None and kept.is_file():
        found: dict[str, Tensor] = torch.load(kept, weights_only=True)["model"]
        return found
    tensors = sane_weights(replace(config, **_SMALL), *photos, seed=0)
    for kind in ("weight", "bias"):
        tensors[f"roi_heads.box.predictor.bbox_pred.{kind}"][:4] = 0.0
    if kept is not None:
        torch.save({"model": tensors}, kept)
    return tensors


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks detectron2_difference")
    parser.add_argument("photos", nargs="+", type=Path, help="any picture files")
    parser.add_argument("--detectron2", type=Path, help="its source tree, if not installed")
    parser.add_argument("--packages", type=Path, help="folder with what it imports, likewise")
    parser.add_argument("--preset", choices=("x152c4", "r101c4", "r50c4"), default="x152c4")
    parser.add_argument(
        "--conventions", choices=("maskrcnn", "detectron2"), default="maskrcnn", help="whose parts"
    )
    parser.add_argument("--weights", type=Path, help="written if not there; for other photos later")
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, default=["textbook", "exact"], help="on our side"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the differences there, too")
    return parser.parse_args(arguments)
