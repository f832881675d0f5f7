"""Reading the small data sets of the task oracle in the original's on-disk forms."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from oscar_core.packing import EncoderInput
from tests.locations import oracle_dir

FOLDER = oracle_dir("tasks")
DATA = FOLDER / "data"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def tsv_rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def floats(text: str, num_rows: int) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(num_rows, -1)


@dataclass(frozen=True)
class CaptionData:
    """keys in label order; captions only where the split is one to learn from."""

    keys: list[str]
    features: dict[str, NDArray[np.float32]]
    tags: dict[str, str]
    captions: list[tuple[str, str]]

    def example(self, index: int, *, is_train: bool, has_tags: bool) -> EncoderInput:
        key, text = self.captions[index] if is_train else (self.keys[index], "")
        tags = self.tags[key] if has_tags else ""
        return EncoderInput(text_a=text, text_b=tags, regions=self.features[key])


@cache
def caption_data(yaml_name: str) -> CaptionData:
    folder = DATA / "caption"
    lines = (folder / yaml_name).read_text(encoding="utf-8").splitlines()
    names = dict(line.split(": ", 1) for line in lines)
    labels = tsv_rows(folder / names["label"])
    stored = [(key, json.loads(value)) for key, value in tsv_rows(folder / names["feature"])]
    rows = read_json(folder / names["caption"])
    return CaptionData(
        keys=[key for key, _ in labels],
        features={key: floats(row["features"], row["num_boxes"]) for key, row in stored},
        tags={key: " ".join(o["class"] for o in json.loads(value)) for key, value in labels},
        captions=[(row["image_id"], row["caption"]) for row in rows],
    )


@dataclass(frozen=True)
class RetrievalData:
    features: dict[str, NDArray[np.float32]]
    tags: dict[str, str]
    captions: dict[str, list[str]]

    def example(self, image: str, text: str, *, has_tags: bool) -> EncoderInput:
        tags = self.tags[image] if has_tags else ""
        return EncoderInput(text_a=text, text_b=tags, regions=self.features[image])


def as_list(value: Any) -> list[Any]:
    return json.loads(value) if isinstance(value, str) else value


@cache
def retrieval_data(split: str) -> RetrievalData:
    folder = DATA / "retrieval"
    tags = {}
    for key, value in tsv_rows(folder / "predictions.tsv"):
        told = json.loads(value)
        found = told if isinstance(told, list) else told["objects"]
        tags[key] = " ".join(each["class"] for each in found)
    captions = read_json(folder / f"{split}_captions.pt.json")
    return RetrievalData(
        features={
            row[0]: floats(row[-1], int(row[1])) for row in tsv_rows(folder / "features.tsv")
        },
        tags=tags,
        captions={key: as_list(value) for key, value in captions.items()},
    )


@cache
def image_features(task: str) -> dict[str, NDArray[np.float32]]:
    name = "nlvr2_img_frcnn_feats" if task == "nlvr" else "img_frcnn_feats"
    return load_file(DATA / task / f"{name}.safetensors")


@cache
def tsv_features(path: Path) -> dict[str, NDArray[np.float32]]:
    return {row[0]: floats(row[2], int(row[1])) for row in tsv_rows(path)}


@cache
def questions(task: str, split: str) -> list[dict[str, Any]]:
    """The entries that the original keeps: with labels, or of a test set."""
    files = {
        ("gqa", "test"): "gqa_all_qla_submission.json",
        ("vqa", "test2015"): "test2015_qla_mrcnn.json",
    }
    usual = "gqa_bal_qla_{}.json" if task == "gqa" else "{}2014_qla_mrcnn.json"
    rows: list[dict[str, Any]] = read_json(
        DATA / task / files.get((task, split), usual.format(split))
    )
    return rows if split.startswith("test") else [row for row in rows if row["an"]]


def question_example(
    task: str, split: str, row: dict[str, Any], args: dict[str, Any]
) -> EncoderInput:
    features = image_features(task)
    if args.get("img_feat_format") == "tsv":
        features = tsv_features(DATA / task / f"{split}_img_frcnn_feats.tsv")
    tags = "" if args["task_name"].endswith("_text_a") else row["o"].replace(";", " ").strip()
    return EncoderInput(text_a=row["q"], text_b=tags, regions=features[str(row["img_id"])])


def statement_pair(
    row: dict[str, Any], sides: Sequence[str], *, has_tags: bool
) -> tuple[EncoderInput, EncoderInput]:
    """Both images of an NLVR2 statement, in the order of `sides`."""
    first, second = (
        EncoderInput(
            text_a=row["q"],
            text_b=row["o"][side] if has_tags else "",
            regions=image_features("nlvr")[row["img_id"][side]],
        )
        for side in sides
    )
    return first, second


def one_statement(row: dict[str, Any], *, has_tags: bool) -> EncoderInput:
    """Both images of a statement in one row, the left one first."""
    left, right = statement_pair(row, ("left", "right"), has_tags=has_tags)
    return EncoderInput(
        text_a=row["q"],
        text_b=f"{left.text_b} {right.text_b}" if has_tags else "",
        regions=np.concatenate([left.regions, right.regions]),
    )
