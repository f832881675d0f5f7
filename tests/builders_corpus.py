"""A published pretraining corpus of a few images on disk."""

import json
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from storage.published.tsv import write_tsv

WIDTH = 8
"""Of the features: two of appearance, six box numbers."""
CORPUS = (
    ("coco_9", "coco_9", "一只黑猫坐在椅子上"),
    ("coco_9", "coco_qa_9_9001", "猫是什么颜色的?"),
    ("coco_25", "coco_25", "两匹马"),
    ("cc_1_7", "cc_1_7", "一张床"),
)


def features_of(seed: int, num: int) -> NDArray[np.float32]:
    """Random appearance and boxes that lie in the image."""
    draw = np.random.default_rng(seed)
    appearance = draw.normal(size=(num, WIDTH - 6))
    corners = np.sort(draw.uniform(size=(num, 2, 2)), axis=1).reshape(num, 4)
    sides = corners[:, 2:] - corners[:, :2]
    return np.concatenate([appearance, corners, sides], axis=1).astype(np.float32)


def write_corpus(
    folder: Path, *, rows: Sequence[tuple[str, str, str]] = CORPUS, num_regions: int = 3
) -> Path:
    """Write yaml, corpus, labels, answers and features; gives back the yaml."""
    write_tsv(folder / "corpus.tsv", rows)
    labels = {
        "coco": {"9": (["猫", "木椅"], ["黑猫"]), "25": (["马", "马", "草地"], None)},
        "googlecc": {"7": (["床"], None)},
    }
    for dataset, images in labels.items():
        place = folder / "labels" / dataset
        write_tsv(place / "predictions_gt.tsv", list(map(_label_row, images, images.values())))
        _write_numbers(place / "imageid2idx.json", images)
    coco = folder / "labels/coco"
    write_tsv(coco / "QA_fileB.tsv", [("9001", json.dumps({"labels": ["黑", "色"]}))])
    _write_numbers(coco / "QA_qaid2idx.json", ["9001"])
    write_features(folder / "features/coco", {"25": features_of(2, 4), "9": features_of(1, 2)})
    write_features(folder / "features/googlecc/1", {"7": features_of(3, num_regions)})
    settings = {
        "corpus": "coco_googlecc",
        "corpus_file": "corpus.tsv",
        "image_label_path": {name: f"labels/{name}" for name in labels},
        "image_feature_path": {name: f"features/{name}" for name in labels},
    }
    path = folder / "corpus.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def write_features(folder: Path, features: dict[str, NDArray[np.float32]]) -> None:
    """A folder of features in the layout of pretraining."""
    rows = [
        (key, str(len(values)), b64encode(values.tobytes()).decode("ascii"))
        for key, values in features.items()
    ]
    write_tsv(folder / "features.tsv", rows)
    _write_numbers(folder / "imageid2idx.json", list(features))


def _label_row(key: str, names: tuple[list[str], list[str] | None]) -> tuple[str, str]:
    content: dict[str, object] = {"image_h": 100, "image_w": 200}
    content["objects"] = [{"class": name, "conf": 0.5} for name in names[0]]
    if names[1] is not None:
        content["gt_objects"] = [{"class": name} for name in names[1]]
    return key, json.dumps(content, ensure_ascii=False)


def _write_numbers(path: Path, keys: Sequence[str] | dict[str, object]) -> None:
    path.write_text(json.dumps({key: row for row, key in enumerate(keys)}), encoding="utf-8")
