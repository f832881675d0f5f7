"""The corpora of a configuration or of a run as a table: `oscar-flow corpus`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.config import RunConfig, read_config
from flows.corpus_table import CorpusCounts, CorpusTable
from flows.errors import ConfigError, FlowError
from flows.gathering import Gathering
from flows.pipeline import plan_of
from flows.plan import Step
from flows.readers import call_reader
from flows.run_folder import RunFolder
from flows.stages import import_corpus
from flows.stages.list_images import Inputs, collections
from flows.stages.train_detector import Config as TrainingDetector
from flows.stored_regions import open_stored
from storage.errors import MissingFileError
from storage.photo_sources.collection import photos_in
from storage.records import ImageSource

COLLECTING, IMPORTING, LISTING = "collect_annotations", "import_corpus", "list_images"
TAKING = "detect"
"""The step that takes regions which are there already; no photos are listed then."""
FILE_NAME = "corpus.json"


def corpus_table(source: str, settings: Sequence[str] = ()) -> CorpusTable:
    """The table of a run's folder, or of a configuration whose files are read now.

    Args:
        source: folder of a run, a YAML file, or the name of a shipped one.
        settings: `--set` values for a configuration.

    Raises:
        FlowError: The run has not collected its texts yet.
        ConfigError: The configuration is wrong, or its photos are rendered by the run itself.
        MissingFileError: A photo folder or an annotation file is not there.
        StorageError: A file cannot be read.
    """
    if Path(source).is_dir():
        return _of_run(RunFolder(Path(source)))
    return corpus_of(read_config(Path(source), settings))


def corpus_of(config: RunConfig) -> CorpusTable:
    """Join the texts of a configuration with its photos; nothing is written. Raises as above."""
    if config.render_scenes is not None:
        raise ConfigError(
            "render_scenes: the run draws its photos and texts itself; run it and name its folder"
        )
    steps = {step.name: step for step in plan_of(_without_models(config)).steps}
    if IMPORTING in steps:
        return _of_published(steps[IMPORTING])
    photos = _photo_ids(steps[LISTING]) if LISTING in steps else _ids_of_regions(steps[TAKING])
    counts = CorpusCounts()
    places, collecting = _places(steps[COLLECTING]), _config(steps[COLLECTING])
    gathering = Gathering(photos, collecting.auto_split, keep=counts.take, drop=counts.drop)
    for number, call in enumerate(collecting.calls):
        files = {name: places[f"files:{number}.{name}"] for name in call.file_names}
        gathering.take(call_reader(call, files), call.reader)
    return counts.table(sorted(photos))


def _without_models(config: RunConfig) -> RunConfig:
    """The same data with nothing that learns, so that no weights are asked for."""
    return replace(
        config,
        train_detector=TrainingDetector(),
        detector_weights=None,
        pretrain=None,
        tasks={},
        warm_start=None,
        vocabulary=None,
        translate_texts=None,
    )


def _of_run(run: RunFolder) -> CorpusTable:
    try:
        folders = json.loads(run.steps.read_text(encoding="utf-8"))
        found = [
            run.path / folders[step] / FILE_NAME
            for step in (COLLECTING, IMPORTING)
            if step in folders
        ]
        content = json.loads(found[0].read_text(encoding="utf-8"))
        return CorpusTable.from_json(content)
    except (OSError, IndexError, KeyError, TypeError, ValueError) as error:
        raise FlowError(
            f"{run.path}: no table of its corpora; run its command again, or name the configuration"
        ) from error


def _of_published(step: Step) -> CorpusTable:
    """Count a published corpus without writing it."""
    places = _places(step)
    return import_corpus.count(_config(step), places["corpus"], places["features"])


def _photo_ids(step: Step) -> frozenset[str]:
    found: set[str] = set()
    for collection in collections(_config(step), _inputs(step)).values():
        photos = (each for each in photos_in(collection) if isinstance(each, ImageSource))
        found |= {photo.image_id for photo in photos}
    if not found:
        raise MissingFileError("no photo found in the folders of data.images; check data.root")
    return frozenset(found)


def _ids_of_regions(step: Step) -> frozenset[str]:
    stored = open_stored(list(_places(step).values()))
    return frozenset(image_id for each in stored for image_id in each.ids)


def _inputs(step: Step) -> Inputs:
    """The stage's own `Inputs`, of files from outside."""
    groups: dict[str, dict[str, Path]] = {}
    for name, place in _places(step).items():
        group, _, number = name.partition(":")
        groups.setdefault(group, {})[number] = place
    return Inputs(**groups)


def _config(step: Step) -> Any:
    """The stage's own `Config`."""
    return step.config


def _places(step: Step) -> Mapping[str, Path]:
    """The files from outside that a step takes."""
    return {key: place for key, place in step.inputs.items() if isinstance(place, Path)}
