"""Runs as they lie on disk when they are finished, for tests of what comes after."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.config import RunConfig, as_yaml
from flows.data import Data, PhotoCollection
from flows.dataset import digest_of, write_digest
from flows.identity import IDENTITY
from flows.retrain_settings import Retraining
from flows.run_folder import RunFolder
from flows.stages.train_detector import Config as TrainingDetector
from storage.artifacts import atomic_write_json, fingerprint, write_done

METRIC = "vqa.accuracy"


def make_config(data: Path, retrain: Retraining | None = None, **other: Any) -> RunConfig:
    """A run over a folder of photos that knows how to train a detector."""
    (data / "photos").mkdir(parents=True, exist_ok=True)
    return RunConfig(
        data=Data(root=data, images=(PhotoCollection(path="photos"),)),
        train_detector=TrainingDetector(preset="demo"),
        retrain=retrain or Retraining(),
        **other,
    )


def add_photos(data: Path, *names: str) -> None:
    """Files that count as photos to whoever only digests them."""
    (data / "photos").mkdir(parents=True, exist_ok=True)
    for name in names:
        (data / "photos" / f"{name}.jpg").write_bytes(name.encode())


def flip(path: Path) -> None:
    """Change one bit of a file; its size stays."""
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


class FinishedRuns:
    """Stands where a real run would: writes what one leaves behind, and remembers the calls.

    Models depend on the photos, the start and the seed alone, as real ones do.
    """

    def __init__(self, *accuracies: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.configs: list[RunConfig] = []
        self._meanwhile = meanwhile
        self._accuracies = list(accuracies)

    def __call__(self, config: RunConfig, out: Path) -> Mapping[str, str]:
        self.configs.append(config)
        self._meanwhile()  # something happens before the run has looked at its data
        photos = sorted(path.name for path in config.data.place().glob("photos/*"))
        made_of = [photos, config.seed, str(config.warm_start), str(config.detector_weights)]
        folders = {}
        if config.detector_weights is None:
            folders["train_detector"] = _step(
                out, "train_detector", "train_detector", made_of, {"detector/detector.json": "{}"}
            )
        weights = {"model/model.safetensors": json.dumps(made_of)}
        folders["vqa_train"] = _step(out, "vqa_train", "train", made_of, weights)
        accuracy = self._accuracies[min(len(self.configs), len(self._accuracies)) - 1]
        metrics = {METRIC: accuracy, f"{METRIC}_shuffled": 0.1, "_versions": {"java": "25"}}
        measured = {"metrics.json": json.dumps(metrics)}
        folders["report"] = _step(out, "report", "report", [*made_of, accuracy], measured)
        run = RunFolder(out)
        atomic_write_json(run.steps, folders)
        run.config.write_text(as_yaml(config))
        run.digests.parent.mkdir(exist_ok=True)
        write_digest(run, digest_of(config, run))
        return folders


def _step(out: Path, step: str, stage: str, config: object, files: Mapping[str, str]) -> str:
    mark = fingerprint(stage, 1, config, {}, {})
    folder = out / f"{step}-{mark[:12]}"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    identity = {"stage": stage, "version": 1, "config": config, "inputs": {}, "outside": {}}
    atomic_write_json(folder / IDENTITY, identity)
    write_done(folder, mark, {})
    return folder.name
