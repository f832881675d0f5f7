"""Ours beside microsoft/scene_graph_benchmark: the same full-size weights, stage by stage.

python -m benchmarks reference_detector --program FOLDER PHOTO ...
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.figure import machine
from benchmarks.reference.comparison import differences
from benchmarks.reference.program import Request
from benchmarks.reference.sane_weights import sane_weights
from benchmarks.reference.table import ENGINES, engines_of, table_of, write_tables
from detector.checkpoints import read_detector
from detector.config import DetectorConfig

_CHANGES = (
    ("MODEL.DEVICE", "cpu"),
    ("MODEL.ROI_HEADS.NMS_FILTER", 1),
    ("TEST.IGNORE_BOX_REGRESSION", True),
    ("TEST.OUTPUT_FEATURE", True),
)
"""Of the published command, beside what is in the settings file."""
_SETTINGS = "sgg_configs/vgattr/vinvl_x152c4.yaml"


def main(arguments: Sequence[str]) -> int:
    """Run both on every photo and print the differences."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        weights = folder / "weights.pth"
        photos = [np.asarray(Image.open(photo).convert("RGB")) for photo in options.photos]
        if not weights.is_file():
            config = replace(DetectorConfig(), min_size=224, max_size=400)  # to be quick
            torch.save({"model": sane_weights(config, *photos, seed=options.seed)}, weights)
        theirs = [folder / f"{number}.safetensors" for number in range(len(photos))]
        if not all(path.is_file() for path in theirs):
            _run_theirs(options, weights, folder)
        engines = engines_of(read_detector(weights).model, options.engines)
        tables = {
            photo.name: {
                name: list(differences(engine, pixels, load_file(path)))
                for name, engine in engines.items()
            }
            for photo, pixels, path in zip(options.photos, photos, theirs, strict=True)
        }
    print(machine())
    for name, columns in tables.items():
        print(f"\n{name}\n{table_of(columns)}")
    if options.json:
        write_tables(options.json, tables)
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reference_detector")
    parser.add_argument("photos", nargs="+", type=Path, help="any picture files")
    parser.add_argument("--program", type=Path, required=True, help="clone of the original")
    parser.add_argument("--packages", type=Path, help="folder with yacs, if not installed")
    parser.add_argument("--keep", type=Path, help="where weights and the program's stages stay")
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=ENGINES,
        default=["textbook", "exact"],
        help="what computes on our side",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--json", type=Path, help="write the differences there, too")
    return parser.parse_args(arguments)


def _run_theirs(options: argparse.Namespace, weights: Path, folder: Path) -> None:
    """The program, in a process of its own."""
    request = Request(
        program=str(options.program.resolve()),
        packages=str(options.packages.resolve()) if options.packages else "",
        settings=str((options.program / _SETTINGS).resolve()),
        changes=_CHANGES,
        weights=str(weights.resolve()),
        photos=tuple(str(photo.resolve()) for photo in options.photos),
        out=str(folder.resolve()),
        threads=options.threads,
    )
    asked = folder / "request.json"
    request.write(asked)
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.reference.program", str(asked)],
        check=True,
    )
