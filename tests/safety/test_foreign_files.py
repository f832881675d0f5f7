"""Files from elsewhere: none runs code, leaves its folder, or grows without bound."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detector.checkpoints import read_detector, save_detector
from detector.errors import DetectorError
from detector.published.weights_file import read_published_weights
from detector.training.checkpoint import CHECKPOINT, read_checkpoint
from flows.config import read_config
from flows.errors import ConfigError
from oscar_core.errors import OscarCoreError
from oscar_core.model_folder import WEIGHTS, read_model, write_model
from oscar_core.task import Knowledge, load_task
from storage.artifacts import read_done, write_done
from storage.errors import DamagedFileError
from storage.manifest import MANIFEST_NAME
from storage.published.label_maps import BACKGROUND, NO_ATTRIBUTE, LabelMap
from storage.region_shards import RegionReader
from tests.builders_core import make_config, make_tokenizer
from tests.builders_detector import tiny_model
from tests.builders_storage import make_regions, write_regions


class Mischief:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def detector_folder(folder: Path) -> Path:
    model = tiny_model()
    num_classes, num_attributes = model.config.num_classes, model.config.num_attributes
    names = LabelMap(
        class_names=(BACKGROUND, *(f"thing {n}" for n in range(1, num_classes))),
        attribute_names=(NO_ATTRIBUTE, *(f"kind {n}" for n in range(1, num_attributes))),
    )
    save_detector(folder, model, names)
    return folder


def model_folder(folder: Path) -> Path:
    task = load_task("vqa")
    config, encoder = task.config(), make_config()
    knowledge = Knowledge(tokenizer=make_tokenizer(), answers=("yes", "no"))
    model = task.build_model(config, knowledge, encoder)
    write_model(
        folder, task="vqa", config=config, encoder=encoder, knowledge=knowledge, model=model
    )
    return folder


def test_the_pickle_of_these_tests_does_run_code(tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    pickle.loads(pickle.dumps(Mischief(mark)))
    assert mark.is_file()


@pytest.mark.parametrize("form", ["bare pickle", "of torch"])
def test_no_reader_of_weights_runs_what_a_file_says(form: str, tmp_path: Path) -> None:
    mark = tmp_path / "owned"
    bad = tmp_path / "bad.pth"
    if form == "of torch":
        torch.save({"model": Mischief(mark)}, bad)
    else:
        bad.write_bytes(pickle.dumps(Mischief(mark)))
    content = bad.read_bytes()
    detector, model = detector_folder(tmp_path / "detector"), model_folder(tmp_path / "model")
    (detector / "detector.safetensors").write_bytes(content)
    (model / WEIGHTS).write_bytes(content)
    (tmp_path / CHECKPOINT).write_bytes(content)
    (tmp_path / "bad.safetensors").write_bytes(content)
    for read in (
        lambda: read_published_weights(bad),
        lambda: read_published_weights(tmp_path / "bad.safetensors"),
        lambda: read_checkpoint(tmp_path, "this run"),
        lambda: read_detector(detector),
    ):
        with pytest.raises(DetectorError):
            read()
    with pytest.raises(OscarCoreError):
        read_model(model)
    assert not mark.exists()


def test_a_shard_named_outside_its_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "regions"
    write_regions(folder, [make_regions("a/1")])
    [shard] = folder.glob("*.parquet")
    shard.rename(tmp_path / shard.name)
    manifest = folder / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace(shard.name, f"../{shard.name}"))
    with pytest.raises(DamagedFileError, match="no file of this folder"):
        RegionReader(folder)


@pytest.mark.parametrize("name", ["../other.txt", "/etc/hostname", "a/../../other.txt"])
def test_a_done_mark_that_names_files_outside_counts_for_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("x")
    folder = tmp_path / "step"
    folder.mkdir()
    (folder / "inside.txt").write_text("x")
    write_done(folder, "f", {})
    assert read_done(folder) is not None
    mark = json.loads((folder / "DONE.json").read_text())
    size = Path(folder, name).stat().st_size if Path(folder, name).exists() else 1
    mark["files"][name] = {"size": size, "sha256": "0" * 64}
    (folder / "DONE.json").write_text(json.dumps(mark))
    assert read_done(folder) is None


def refusal(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(path)
    return str(refused.value)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os"]
)
def test_yaml_makes_no_objects(tag: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, f"seed: {tag} ['touch {tmp_path}/owned']\n")
    assert "not YAML" in said
    assert not (tmp_path / "owned").exists()
    with pytest.raises(ConfigError):
        read_config(Path("demo.yaml"), [f"seed={tag} ['touch {tmp_path}/owned']"])
    assert not (tmp_path / "owned").exists()


def test_aliases_that_multiply_are_refused_before_they_do(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for number in range(1, 12):
        lines.append(f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]")
    assert "multiplied by aliases" in refusal(tmp_path, "\n".join(lines))


def test_a_value_that_contains_itself_is_refused(tmp_path: Path) -> None:
    assert "multiplied by aliases" in refusal(tmp_path, "data: &d\n  images: *d\n")


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refusal(tmp_path, "seed: " + "[" * 2000)


def test_an_alias_used_as_it_is_meant_still_works(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    text = "base: demo.yaml\npretrain:\n  training: &t {steps: 7}\ntasks:\n  vqa: {training: *t}\n"
    path.write_text(text)
    assert read_config(path).tasks["vqa"].training.steps == 7
