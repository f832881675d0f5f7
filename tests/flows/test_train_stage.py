"""The training stage: smaller parts for the same batch, a card, a stop that loses nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from flows import child_scale
from flows.errors import ExitStatus, exit_status
from flows.stages.train import Config, Inputs, Outputs, Summary, run, shrunk
from oscar_core.errors import TrainingStoppedError
from oscar_core.training.checkpoints import checkpoint_paths
from oscar_core.training.config import TrainingConfig
from storage.annotation_shards import write_annotations
from storage.region_slices import RegionSettings, write_regions
from storage.tag_shards import write_tags
from tests.builders_library import TINY, WIDTH, make_library, tiny_training

CONFIG = Config(
    task="vqa",
    settings={"loss": "cross_entropy", "min_questions": 1, "language": "zh"},
    encoder=TINY,
    training=tiny_training(),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A small library on disk."""
    folder, library = tmp_path_factory.mktemp("library"), make_library()
    settings = RegionSettings(detector="d1", feature_width=WIDTH)
    write_regions(folder / "regions", library.regions.values(), settings)
    write_tags(folder / "tags", library.tags.values())
    write_annotations(folder / "annotations", library.annotations)
    return Inputs(
        regions=folder / "regions", tags=folder / "tags", annotations=folder / "annotations"
    )


@pytest.fixture
def asked_to_stop() -> Iterator[None]:
    child_scale.stop_requested.set()
    yield
    child_scale.stop_requested.clear()


def train(inputs: Inputs, folder: Path, config: Config = CONFIG) -> Summary:
    folder.mkdir(exist_ok=True)
    outputs = Outputs(model=folder / "model", losses=folder / "losses.jsonl")
    return run(config, inputs, outputs)


def test_half_the_memory_is_twice_the_parts_of_the_same_batch() -> None:
    config = Config(task="vqa", training=TrainingConfig(batch_size=24, accumulation=2))
    assert [shrunk(config, times).training.accumulation for times in (0, 1, 2, 9)] == [2, 4, 8, 24]
    assert shrunk(config, 3).training.batch_size == 24
    assert shrunk(config, 0) == config


def test_smaller_parts_learn_the_same(inputs: Inputs, tmp_path: Path) -> None:
    train(inputs, tmp_path / "whole")
    train(inputs, tmp_path / "halved", shrunk(CONFIG, 2))
    whole, halved = (
        load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "halved")
    )
    for name, value in whole.items():
        if "key.bias" not in name:  # its gradient is rounding noise
            assert value.allclose(halved[name], atol=1e-4), name


@pytest.mark.usefixtures("asked_to_stop")
def test_asked_to_stop_it_leaves_a_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(TrainingStoppedError) as stopped:
        train(inputs, tmp_path)
    assert exit_status(stopped.value) == ExitStatus.CANCELLED
    (path,) = checkpoint_paths(tmp_path / "checkpoints")
    assert path.name == "checkpoint-0000001.safetensors"
    child_scale.stop_requested.clear()
    assert train(inputs, tmp_path).resumed_at == 1


def test_the_model_carries_its_card(inputs: Inputs, tmp_path: Path) -> None:
    identity = {
        "stage": "train",
        "version": 1,
        "config": {"task": "vqa"},
        "inputs": {"regions": "a" * 64},
        "outside": {"start": "b" * 64},
    }
    (tmp_path / "identity.json").write_text(json.dumps(identity))
    train(inputs, tmp_path / "earlier")
    start = tmp_path / "earlier/model"
    train(replace(inputs, start=start), tmp_path)
    _, front, text = (tmp_path / "model/README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["language"] == ["zh"]
    assert told["base_model"] == [f"model-{'b' * 12}"]
    assert "a" * 64 in text
    assert "| updates | 6 |" in text
    assert str(tmp_path) not in text


def test_the_card_and_the_summary_tell_what_began_anew(inputs: Inputs, tmp_path: Path) -> None:
    train(inputs, tmp_path / "vqa")
    start = replace(inputs, start=tmp_path / "vqa/model")
    config = replace(CONFIG, task="captioning", settings={"max_text": 30, "max_text_a": 20})
    summary = train(start, tmp_path, config)
    assert (summary.drawn_anew, summary.left_out) == ("word_head", "classifier")
    card = (tmp_path / "model/README.md").read_text()
    assert "| drawn anew, as the start lacks it | word_head |" in card
    assert "| left out of the start | classifier |" in card
