"""Stage: photos and boxes -> a trained detector."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from detector.config import DetectorConfig, preset
from detector.errors import DetectorConfigError
from detector.training.config import DetectorTraining
from flows.child_scale import should_stop
from flows.file_sources import FileSource
from flows.model_card import Learned, write_model_card
from flows.photos import read_photos
from flows.progress import SILENT, Progress
from flows.typed import nearest
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.sources import local_path

if TYPE_CHECKING:
    from detector.training.train import StepReport

VERSION = 1
USES_DEVICE = True
_NETWORK = TypeAdapter(DetectorConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `train_detector`.

    preset:     sizes of the network (`detector.config.PRESETS`)
    overrides:  what differs from the preset
    pretrained: trunk and res5 start from ImageNet (`lite0` only)
    label_map:  names to learn (VinVL's layout); None takes all of the training annotations
    """

    preset: str = "x152c4"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    training: DetectorTraining = field(default_factory=DetectorTraining)
    label_map: FileSource | None = None

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built while the configuration is read."""
        self.network()

    def network(self) -> DetectorConfig:
        """The preset with its overrides; a section `regions` holds differences as well.

        Raises:
            DetectorConfigError: No such preset or key, a value of the wrong kind.
        """
        values = _overridden(asdict(preset(self.preset)), self.overrides, "overrides")
        try:
            return _NETWORK.validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DetectorConfigError(f"overrides.{key}: {first['msg']}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CutConfig(Config):
    """The same training with less memory.

    Only `shrunk` makes it, for one try: it is never configured, so no step is known by it.

    parts: in which a batch goes through the network
    """

    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    images: Path
    photos: Mapping[str, Path]
    annotations: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    detector: Path
    losses: Path = Path("losses.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    num_in: int
    num_out: int
    num_quarantined: int
    num_objects: int
    num_steps: int


def shrunk(config: Config, halvings: int) -> Config:
    """Half the images at once each time, and the same batch.

    The same settings where that cannot be: one image a step, or statistics of the whole batch.
    """
    parts = min(config.training.images_per_step, 2**halvings)
    if parts == 1 or config.network().norm == "batch":
        return config
    values = {each.name: getattr(config, each.name) for each in fields(Config)}
    return CutConfig(**values, parts=parts)


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """Train, or go on training."""
    from detector.published.imagenet_lite0 import load_imagenet_trunk
    from detector.training.photos import label_map_from
    from detector.training.train import train_detector
    from storage.annotation_shards import read_annotations
    from storage.published.label_maps import read_label_map

    def tell(report: "StepReport") -> None:
        note = f"{report.phase}, loss {report.losses['total']:.3f}"
        progress.at(report.step, report.num_steps, unit="steps", note=note)

    everything = read_annotations(inputs.annotations).objects
    objects = [image for image in everything if image.split == "train"]
    if config.label_map is None:
        label_map = label_map_from(objects)
    else:
        label_map = read_label_map(local_path(config.label_map))
    summary = train_detector(
        config=config.network(),
        training=config.training,
        sources=read_photos(inputs.images, inputs.photos),
        objects=objects,
        label_map=label_map,
        folder=outputs.detector,
        losses=outputs.losses,
        initialise=load_imagenet_trunk if config.pretrained else None,
        on_photo=lambda done, total: progress.at(done, total, unit="photos"),
        on_step=tell,
        should_stop=should_stop,
        parts=config.parts if isinstance(config, CutConfig) else 1,
    )
    write_quarantine(outputs.losses.parent / QUARANTINE_NAME, summary.quarantined)
    facts = {
        "photos": summary.num_photos,
        "objects": summary.num_objects,
        "updates": summary.num_steps,
    }
    learned = Learned(task="train_detector", facts=facts, losses=outputs.losses)
    write_model_card(outputs.detector, learned)
    num_quarantined = len(summary.quarantined)
    return Summary(
        num_in=summary.num_photos + num_quarantined,
        num_out=summary.num_photos,
        num_quarantined=num_quarantined,
        num_objects=summary.num_objects,
        num_steps=summary.num_steps,
    )


def _overridden(base: Mapping[str, Any], changes: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Values of a section with differences laid over them, sections within sections too."""
    values = dict(base)
    for name, value in changes.items():
        if name not in base:
            raise DetectorConfigError(f"{key}.{name}: {nearest(name, sorted(base))}")
        if isinstance(value, Mapping) and isinstance(base[name], Mapping):
            value = _overridden(base[name], value, f"{key}.{name}")
        values[name] = value
    return values
