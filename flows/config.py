"""The configuration of a run: YAML files and `--set` values -> one frozen `RunConfig`.

Every section belongs to the room or stage it configures; here they are only put together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from flows.data import Data
from flows.errors import ConfigError
from flows.file_sources import FileSource
from flows.identity import config_as_json, stage_names
from flows.limits import StageLimits
from flows.readers import check_entry
from flows.retrain_settings import Retraining
from flows.scale import LOCAL, Scale
from flows.schedule import Resources
from flows.stages.detect import Config as Detecting
from flows.stages.import_corpus import Config as Importing
from flows.stages.render_scenes import Config as Rendering
from flows.stages.score_detector import Config as ScoringDetector
from flows.stages.train_detector import Config as TrainingDetector
from flows.stages.translate_tags import Config as Translating
from flows.stages.translate_texts import Config as TranslatingTexts
from flows.typed import build, nearest
from flows.yaml_tree import Key, Tree, apply_settings, dotted, read_tree
from oscar_core.config import EncoderSettings
from oscar_core.task import CONTROLS, load_task, task_names
from oscar_core.training.config import TrainingConfig

PRETRAINING = "pretraining"
"""The task of the step `pretrain`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What a model learns, and how; YAML section `pretrain`.

    settings: of the task's own `Config`
    start:    a model folder, ours or a published checkpoint, whose weights it goes on from
    hidden_dropout: instead of the encoder's
    geometry: order of the last two numbers of the regions that a published `start` learned from,
              `width_first` or `height_first`; regions in the other order are refused
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    start: FileSource | None = None
    hidden_dropout: float | None = None
    geometry: Literal["width_first", "height_first"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun(Learning):
    """One branch after pretraining: train, predict, score; YAML section `tasks.<task>`.

    split:    on which it is predicted and scored
    controls: which pictures it is judged with besides the right ones
    """

    split: str = "test"
    controls: tuple[str, ...] = tuple(name for name in CONTROLS if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCorpus(Importing):
    """A pretraining corpus with its features, in VinVL's layout; YAML section `import_corpus`.

    corpus:   folder of the corpus's yaml
    features: folder that its feature folders are relative to
    """

    corpus: Path
    features: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the report shows; YAML section `report`."""

    title: str = ""
    num_gallery: int = 12
    num_examples: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A whole run.

    seed:             of everything that draws: scenes, weights, orders, controls
    render_scenes:    draws the photos and annotations first; `data` then speaks of them
    import_corpus:    what `pretrain` learns from instead of the photos; without `data.images` and
                      `data.regions`, so do the tasks
    detector_weights: folder of a trained detector; no detector is trained then
    train_detector, score_detector: None leaves the step out
    translate_texts:  captions and questions into another language by a model; None leaves it out
    vocabulary:       a BERT vocabulary; None builds one from the training texts
    encoder:          sizes of the model
    pretrain:         None starts every task from new weights
    tasks:            task -> its branch; each is independent of the others
    resources, limits, scale: what of the machines may be used; they change no result's name
    retrain:          what `oscar-flow deploy` does with new data
    warm_start:       folder of a registered version (`flows/models.py`): a training whose step
                      has a model there, and takes none from the run itself, goes on from it
    """

    seed: int = 0
    data: Data = field(default_factory=Data)
    render_scenes: Rendering | None = None
    import_corpus: PublishedCorpus | None = None
    detector_weights: FileSource | None = None
    train_detector: TrainingDetector | None = None
    detect: Detecting = field(default_factory=Detecting)
    score_detector: ScoringDetector | None = None
    translate_tags: Translating = field(default_factory=Translating)
    translate_texts: TranslatingTexts | None = None
    vocabulary: FileSource | None = None
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    pretrain: Learning | None = None
    tasks: Mapping[str, TaskRun] = field(default_factory=dict)
    report: Page = field(default_factory=Page)
    resources: Resources = field(default_factory=Resources)
    limits: Mapping[str, StageLimits] = field(default_factory=dict)
    scale: Scale = LOCAL
    retrain: Retraining = field(default_factory=Retraining)
    warm_start: Path | None = None

    def __post_init__(self) -> None:
        """Check what sections demand of each other."""
        if self.data.is_empty and self.import_corpus is None:
            raise ConfigError("data.images: name at least one folder of photos")
        if self.data.regions:
            self._check_regions()
        elif self.data.images and self.detector_weights is None and self.train_detector is None:
            raise ConfigError(
                "a run needs a detector: give detector_weights, or a section train_detector"
            )
        unknown = sorted(set(self.limits) - set(stage_names()))
        if unknown:
            raise ConfigError(f"limits.{unknown[0]}: {nearest(unknown[0], stage_names())}")

    def _check_regions(self) -> None:
        """Regions stand for photos and detector, which nothing may ask for then."""
        if self.render_scenes is not None:
            raise ConfigError("data.regions: render_scenes draws photos of its own; leave out one")
        if self.score_detector is not None and self.score_detector.visual_genome:
            raise ConfigError(
                "score_detector.visual_genome: looks at photos; with data.regions set it to false"
            )


def read_config(path: Path, settings: Sequence[str] = ()) -> RunConfig:
    """Read a configuration on top of its base, with `--set` values on top of that.

    Raises:
        ConfigError: One line for every mistake.
    """
    tree = read_tree(path)
    apply_settings(tree, settings)
    return typed(tree)


def typed(tree: Tree) -> RunConfig:
    """The configuration of a tree, its open parts (readers, task settings) checked too.

    Raises:
        ConfigError: One line for every mistake.
    """
    mistakes: list[str] = []
    config: RunConfig | None = None
    try:
        config = _without_unused(build(_without_null_members(tree), RunConfig))
    except ConfigError as error:
        mistakes += str(error).splitlines()
    mistakes += _source_mistakes(tree)
    mistakes += _task_mistakes(tree)
    if mistakes or config is None:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))
    return config


def _without_null_members(tree: Tree) -> Tree:
    """The same without tasks and limits that are null: nothing of the base is left to take away."""
    kept = {
        section: {name: each for name, each in members.items() if each is not None}
        for section in ("tasks", "limits")
        if isinstance(members := tree.values.get(section), Mapping)
    }
    return replace(tree, values={**tree.values, **kept})


def _without_unused(config: RunConfig) -> RunConfig:
    """The same without the photos and the detector that `data.regions` stands for."""
    if not config.data.regions:
        return config
    data = replace(config.data, images=())
    return replace(config, data=data, detector_weights=None, train_detector=None)


def as_yaml(config: RunConfig) -> str:
    """The whole configuration, defaults included, as it can be read again from anywhere."""
    data = config.data
    if config.render_scenes is None:
        data = replace(data, root=data.place().absolute())
    plain = config_as_json(replace(_with_absolute_paths(config), data=data))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _with_absolute_paths(value: Any) -> Any:
    if isinstance(value, Path):
        return value.absolute()
    if not is_dataclass(value) or isinstance(value, type):
        return value
    return replace(
        value,
        **{each.name: _with_absolute_paths(getattr(value, each.name)) for each in fields(value)},
    )


def _source_mistakes(tree: Tree) -> Iterator[str]:
    sources = _at(tree.values, "data", "sources", default=[])
    for number, entry in enumerate(sources if isinstance(sources, list) else ()):
        key: Key = ("data", "sources", number)
        known = entry if isinstance(entry, Mapping) else {}
        try:
            check_entry(known)
        except ConfigError as error:
            name, _, said = str(error).partition(": ")
            key, told = ((*key, name), said) if name in known else (key, str(error))
            yield f"{tree.origin(key)}: {dotted(key)}: {told}"


def _task_mistakes(tree: Tree) -> Iterator[str]:
    """What is wrong with the settings of tasks, which the task itself knows."""
    if isinstance(_at(tree.values, "pretrain", default=None), Mapping):
        yield from _settings_mistakes(tree, PRETRAINING, ("pretrain",))
    tasks = _at(tree.values, "tasks", default={})
    for name in tasks if isinstance(tasks, Mapping) else ():
        known = [each for each in task_names() if each != PRETRAINING]
        if name not in known:
            key: Key = ("tasks", name)
            yield f"{tree.origin(key)}: {dotted(key)}: {nearest(str(name), known)}"
        elif isinstance(tasks[name], Mapping):  # anything else is told with the types
            yield from _settings_mistakes(tree, name, ("tasks", name))


def _settings_mistakes(tree: Tree, task: str, section: Key) -> Iterator[str]:
    try:
        if isinstance(_at(tree.values, *section, "settings", default={}), Mapping):
            build(tree, load_task(task).config, at=(*section, "settings"))
    except ConfigError as error:
        yield from str(error).splitlines()


def _at(values: Any, *key: Any, default: Any) -> Any:
    """What stands at a key of nested mappings, if anything does."""
    for part in key:
        if not isinstance(values, Mapping):
            return default
        values = values.get(part)
    return default if values is None else values
