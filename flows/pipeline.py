"""A run's configuration -> its plan: which steps there are, and what each takes from which.

render_scenes (demo) -> list_images -> collect_annotations -> translate_texts (where asked for)
-> train_detector (unless weights are given) -> detect -> score_detector, translate_tags ->
pretrain -> for each task train, predict, score -> report. The branches after `pretrain` need
nothing of each other. import_corpus, with its own translations, stands before `pretrain` alone.
Where regions are there already, `detect` takes them and comes first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

from flows.config import PRETRAINING, Learning, RunConfig, TaskRun
from flows.file_sources import FileSource, Find, with_local_files
from flows.limits import NO_LIMITS
from flows.photo_places import Placed, Reference, placed_collections
from flows.plan import Plan, Step
from flows.readers import ReaderCall, SourceEntry, check_entry
from flows.stages import (
    collect_annotations,
    import_corpus,
    list_images,
    predict,
    report,
    score,
    take_regions,
    train,
)
from flows.stored_regions import check_order
from storage.errors import MissingFileError
from storage.sources import local_path

SCENES = "render_scenes.scenes"
LIBRARY = {
    "regions": "detect.regions",
    "tags": "translate_tags.tags",
    "annotations": "collect_annotations.annotations",
}
TRANSLATED = {**LIBRARY, "annotations": "translate_texts.annotations"}
"""The same where a model has translated captions and questions."""


def plan_of(config: RunConfig, find: Find = local_path) -> Plan:
    """Put the steps of a run in order.

    Args:
        config: of the run.
        find: gives the local file of a weight, vocabulary or dictionary that lies elsewhere.

    Raises:
        MissingFileError: A photo folder or an annotation file is not there.
        StorageError: Regions that are there are not as the configuration says.
        SourceError: A file that lies elsewhere cannot be had.
    """
    limits = config.limits
    steps = _steps(with_local_files(config, find))
    return Plan(tuple(replace(step, limits=limits.get(step.stage, NO_LIMITS)) for step in steps))


def _steps(config: RunConfig) -> Iterator[Step]:
    seeing = () if config.data.is_empty else _seeing(config)
    steps = [*seeing, *_importing(config), *_learning(config)]
    yield from steps
    yield _report(config, [step.name for step in steps])


def _seeing(config: RunConfig) -> Iterator[Step]:
    """From photos, or from regions that are there, to regions, tags and annotations."""
    placed = _placed_collections(config)
    images: dict[str, Reference] = {"images": "list_images.images", **_photos(placed)}
    if config.data.regions:
        images = {"images": "detect.images"}
        yield _take(config)
    elif config.render_scenes is not None:
        yield Step(
            name="render_scenes",
            stage="render_scenes",
            config=replace(config.render_scenes, seed=config.seed),
        )
    if placed:
        yield _list(placed)
    yield _collect(config, images["images"])
    if config.translate_texts is not None:
        yield Step(
            name="translate_texts",
            stage="translate_texts",
            config=config.translate_texts,
            inputs={"annotations": LIBRARY["annotations"]},
        )
    if not config.data.regions:
        yield from _detecting(config, images)
    if config.score_detector is not None:
        judged = {**images, "detector": _detector(config)}
        yield Step(
            name="score_detector",
            stage="score_detector",
            config=config.score_detector,
            inputs={
                "regions": LIBRARY["regions"],
                "annotations": LIBRARY["annotations"],
                **(judged if config.score_detector.visual_genome else {}),
            },
        )
    yield Step(
        name="translate_tags",
        stage="translate_tags",
        config=config.translate_tags,
        inputs={"regions": LIBRARY["regions"]},
    )


def _list(placed: Sequence[Placed]) -> Step:
    """Which photos there are."""
    return Step(
        name="list_images",
        stage="list_images",
        config=list_images.Config(
            collections={str(at): each.reading for at, each in enumerate(placed)}
        ),
        inputs={**_photos(placed), **_listings(placed)},
    )


def _take(config: RunConfig) -> Step:
    """The step `detect` where its regions are there already."""
    data = config.data
    folders = {
        f"stored:{at}": _existing(data.place() / path, f"data.regions.{at}")
        for at, path in enumerate(data.regions)
    }
    for folder in folders.values():
        check_order(folder, config.detect.geometry)
    return Step(name="detect", stage="take_regions", config=take_regions.Config(), inputs=folders)


def _detecting(config: RunConfig, images: Mapping[str, Reference]) -> Iterator[Step]:
    """Train a detector unless one is given, and let it see the photos."""
    # what computes most gets all threads (`Plan.has_company`): one after the other
    alone = ("collect_annotations",) if config.translate_texts is None else ("translate_texts",)
    if config.detector_weights is None and config.train_detector is not None:
        training = replace(config.train_detector.training, seed=config.seed)
        yield Step(
            name="train_detector",
            stage="train_detector",
            config=replace(config.train_detector, training=training),
            inputs={**images, "annotations": LIBRARY["annotations"]},
            after=alone,
        )
    yield Step(
        name="detect",
        stage="detect",
        config=config.detect,
        inputs={**images, "detector": _detector(config)},
        after=alone,
    )


def _detector(config: RunConfig) -> Reference:
    """The detector that was given, or the one that the run trains."""
    if config.detector_weights is None:
        return "train_detector.detector"
    return _existing(config.detector_weights, "detector_weights")


def _importing(config: RunConfig) -> Iterator[Step]:
    """A published corpus with its features.

    What is in another language than it should be goes through the translations of the photos' own.
    """
    corpus = config.import_corpus
    if corpus is None:
        return
    names = [each.name for each in fields(import_corpus.Config)]
    yield Step(
        name="import_corpus",
        stage="import_corpus",
        config=import_corpus.Config(**{name: getattr(corpus, name) for name in names}),
        inputs={
            "corpus": _existing(corpus.corpus, "import_corpus.corpus"),
            "features": _existing(corpus.features, "import_corpus.features"),
        },
    )
    if _translates_corpus_tags(config):
        yield Step(
            name="translate_corpus_tags",
            stage="translate_tags",
            config=config.translate_tags,
            inputs={"regions": "import_corpus.regions"},
        )
    if _translates_corpus_texts(config):
        yield Step(
            name="translate_corpus_texts",
            stage="translate_texts",
            config=config.translate_texts,
            inputs={"annotations": "import_corpus.annotations"},
        )


def _translates_corpus_tags(config: RunConfig) -> bool:
    corpus = config.import_corpus
    return corpus is not None and corpus.language != config.translate_tags.language


def _translates_corpus_texts(config: RunConfig) -> bool:
    corpus, texts = config.import_corpus, config.translate_texts
    return corpus is not None and texts is not None and corpus.language == texts.direction.source


def _corpus(config: RunConfig) -> Mapping[str, Reference]:
    """What pretraining learns from."""
    if config.import_corpus is None:
        return _library(config)
    tags = "translate_corpus_tags" if _translates_corpus_tags(config) else "import_corpus"
    texts = "translate_corpus_texts" if _translates_corpus_texts(config) else "import_corpus"
    return {
        "regions": "import_corpus.regions",
        "tags": f"{tags}.tags",
        "annotations": f"{texts}.annotations",
    }


def _library(config: RunConfig) -> Mapping[str, Reference]:
    """Where regions, tags and annotations of the tasks come from."""
    if config.data.is_empty:
        return _corpus(config)
    return LIBRARY if config.translate_texts is None else TRANSLATED


def _collect(config: RunConfig, images: Reference) -> Step:
    calls: list[ReaderCall] = []
    files: dict[str, Reference] = {}
    for number, source in enumerate(config.data.sources):
        entry = check_entry(source)
        calls.append(
            ReaderCall(
                reader=entry.reader, options=entry.options, file_names=tuple(sorted(entry.files))
            )
        )
        files |= _source_files(config, number, entry)
    return Step(
        name="collect_annotations",
        stage="collect_annotations",
        config=collect_annotations.Config(calls=tuple(calls), auto_split=config.data.auto_split),
        inputs={"images": images, **files},
    )


def _learning(config: RunConfig) -> Iterator[Step]:
    """Pretraining, then one branch for each task."""
    start: dict[str, Reference] = {}
    if config.pretrain is not None:
        pretrain = _train("pretrain", PRETRAINING, config.pretrain, config, start)
        # nothing else is left to run beside it then, so it gets all threads (`Plan.has_company`)
        scored = ("score_detector",) if config.score_detector and not config.data.is_empty else ()
        yield replace(pretrain, after=scored)
        start = {"start": "pretrain.model"}
    for task, branch in config.tasks.items():
        yield _train(f"{task}_train", task, branch, config, start)
        yield _predict(task, branch, config)
        yield _score(task, branch, config)


def _train(
    name: str, task: str, learning: Learning, config: RunConfig, start: Mapping[str, Reference]
) -> Step:
    return Step(
        name=name,
        stage="train",
        config=train.Config(
            task=task,
            settings=learning.settings,
            encoder=config.encoder,
            training=replace(learning.training, seed=config.seed),
            vocabulary=_here(config.vocabulary),
            hidden_dropout=learning.hidden_dropout,
            geometry=learning.geometry,
        ),
        inputs={
            **(_corpus(config) if task == PRETRAINING else _library(config)),
            **(_own_start(learning, name) or start or _warm(config, name)),
        },
    )


def _own_start(learning: Learning, step: str) -> dict[str, Reference]:
    """The model that a training was told to go on from."""
    if learning.start is None:
        return {}
    return {"start": _existing(learning.start, f"start of {step}")}


def _warm(config: RunConfig, step: str) -> dict[str, Reference]:
    """The model of an earlier version that a training goes on from, where there is one."""
    if config.warm_start is None:
        return {}
    place = _existing(config.warm_start, "warm_start") / step
    return {"start": place} if place.is_dir() else {}


def _predict(task: str, branch: TaskRun, config: RunConfig) -> Step:
    return Step(
        name=f"{task}_predict",
        stage="predict",
        config=predict.Config(
            split=branch.split, controls=("", *branch.controls), seed=config.seed
        ),
        inputs={"model": f"{task}_train.model", **_library(config)},
    )


def _score(task: str, branch: TaskRun, config: RunConfig) -> Step:
    truth = {"truth": f"{SCENES}/truth.json"} if config.render_scenes is not None else {}
    return Step(
        name=f"{task}_score",
        stage="score",
        config=score.Config(task=task, settings=branch.settings, split=branch.split),
        inputs={"predictions": f"{task}_predict.predictions", **_library(config), **truth},
    )


def _report(config: RunConfig, names: list[str]) -> Step:
    languages = {
        f"{task}_score": str(branch.settings.get("language", "zh"))
        for task, branch in config.tasks.items()
    }
    photos = _photos(_placed_collections(config))
    truth = {"truth": f"{SCENES}/truth.json"} if config.render_scenes is not None else {}
    page = config.report
    return Step(
        name="report",
        stage="report",
        config=report.Config(
            title=page.title,
            num_gallery=page.num_gallery,
            num_examples=page.num_examples,
            languages=languages,
        ),
        inputs={**{f"steps:{name}": name for name in names}, **photos, **truth},
    )


def _placed_collections(config: RunConfig) -> list[Placed]:
    """Every collection of photos, in the order of its number; none where regions stand for them."""
    if config.data.regions:
        return []
    return list(placed_collections(config.data, lambda path, key: _placed(config, path, key)))


def _photos(placed: Sequence[Placed]) -> dict[str, Reference]:
    """What stages open photos in, by the number of the collection."""
    places = {f"photos:{at}": each.place for at, each in enumerate(placed)}
    return {name: place for name, place in places.items() if place is not None}


def _listings(placed: Sequence[Placed]) -> dict[str, Reference]:
    """What else says which photos there are."""
    files = {
        **{f"listings:{at}": each.listing for at, each in enumerate(placed)},
        **{f"sizes:{at}": each.sizes for at, each in enumerate(placed)},
    }
    return {name: place for name, place in files.items() if place is not None}


def _source_files(config: RunConfig, number: int, entry: SourceEntry) -> dict[str, Reference]:
    return {
        f"files:{number}.{name}": _placed(config, path, f"data.sources.{number}.{name}")
        for name, path in entry.files.items()
    }


def _placed(config: RunConfig, path: str, key: str) -> Reference:
    """A path of `data`: inside the rendered scenes, or below the root."""
    if config.render_scenes is not None:
        return f"{SCENES}/{path}"
    return _existing(config.data.place() / path, key)


def _here(path: FileSource | None) -> Path | None:
    return None if path is None else local_path(path)  # `plan_of` has fetched it


def _existing(path: FileSource, key: str) -> Path:
    path = local_path(path)  # `plan_of` has fetched it
    if not path.exists():
        hint = "; set data.root to where the data lies" if key.startswith("data.") else ""
        raise MissingFileError(f"{path}: no such file or folder ({key}){hint}")
    return path
