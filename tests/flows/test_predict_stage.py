"""The predicting stage: smaller batches where memory is short, the same predictions."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.child_request import can_shrink
from flows.identity import config_as_json
from flows.predictions import rows
from flows.progress import Progress, ProgressReport
from flows.stages import predict
from oscar_core.run import train_task
from oscar_core.task import load_task
from storage.annotation_shards import write_annotations
from storage.library import Library
from storage.region_slices import RegionSettings, write_regions
from storage.tag_shards import write_tags
from tests.builders_library import TINY, WIDTH, make_library, tiny_training

CONFIG = predict.Config(controls=("",))
SETTINGS: dict[str, dict[str, Any]] = {
    "captioning": {"max_text": 30, "max_text_a": 16, "max_length": 12, "num_beams": 2},
    "retrieval": {"language": "zh"},
    "vqa": {"language": "zh", "loss": "cross_entropy", "min_questions": 1},
}


def stored(folder: Path, task: str, library: Library) -> predict.Inputs:
    """A model that learned for one step, and the library on disk."""
    train_task(
        task=task,
        settings=load_task(task).config(**SETTINGS[task]),
        encoder=TINY,
        training=tiny_training(steps=1, batch_size=4),
        library=library,
        vocabulary=None,
        start=None,
        folder=folder / "model",
        losses=folder / "losses.jsonl",
        on_step=lambda report: None,
    )
    write_regions(
        folder / "regions",
        library.regions.values(),
        RegionSettings(detector="d1", feature_width=WIDTH),
    )
    write_tags(folder / "tags", library.tags.values())
    write_annotations(folder / "annotations", library.annotations)
    return predict.Inputs(
        model=folder / "model",
        regions=folder / "regions",
        tags=folder / "tags",
        annotations=folder / "annotations",
    )


def told_by(
    config: predict.Config, inputs: predict.Inputs, folder: Path
) -> tuple[list[Any], list[int]]:
    """The predictions, and how many examples were done after each batch."""
    reports: list[ProgressReport] = []
    folder.mkdir()
    outputs = predict.Outputs(predictions=folder)
    predict.run(config, inputs, outputs, Progress(reports.append, every_seconds=0))
    found = [json.loads(row) for row in rows(folder / "right.jsonl")]
    return found, [report.done for report in reports]


@pytest.mark.parametrize(
    ("task", "halvings", "batches"),
    [
        ("captioning", 4, [4, 6]),
        ("captioning", 9, [1, 2, 3, 4, 5, 6]),
        ("retrieval", 1, [2, 4, 6]),
        ("retrieval", 2, [1, 2, 3, 4, 5, 6]),
        ("vqa", 4, [4, 8, 12]),
    ],
)
def test_smaller_batches_tell_the_same(
    tmp_path: Path, task: str, halvings: int, batches: list[int]
) -> None:
    inputs = stored(tmp_path, task, make_library(num_test=6))
    whole, _ = told_by(CONFIG, inputs, tmp_path / "whole")
    cut, done = told_by(predict.shrunk(CONFIG, halvings), inputs, tmp_path / "cut")
    assert done == batches
    assert len(cut) == len(whole)
    for one, other in zip(whole, cut, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            wanted = value
            if isinstance(value, float) or name == "scores":  # rounded to five places
                wanted = pytest.approx(value, abs=2e-5)
            assert other[name] == wanted, name


def test_a_step_is_not_known_by_how_its_batches_are_cut() -> None:
    assert "parts" not in config_as_json(CONFIG)
    assert predict.shrunk(CONFIG, 0) == CONFIG
    assert can_shrink(predict, CONFIG, 3)
