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
from flows.ranks import is_writer
from flows.typed import nearest
from storage.quarantine import QUARANTINE_NAME, write_quarantine
from storage.sources import local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from detector.model import AttributeRCNN
    from detector.training.start import Started
    from detector.training.train import StepReport, TrainingSummary
    from storage.published.label_maps import LabelMap
    from storage.records import ImageObjects

VERSION = 1
USES_DEVICE = True
SPREADS = {"torchrun": ""}
_NETWORK = TypeAdapter(DetectorConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings; YAML section `train_detector`.

    preset:     sizes of the network (`detector.config.PRESETS`)
    overrides:  what differs from the preset
    pretrained: trunk and res5 start from the ImageNet weights of the extra `pretrained` (`lite0`)
    start:      weights to start from: a detector folder, a published detector, an ImageNet ResNet
                in torchvision's layout or as a `.pkl` of Caffe2 or detectron2; heads that do not
                fit are drawn anew
    label_map:  names to learn (VinVL's layout); None takes all of the training annotations
    """

    preset: str = "x152c4"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False
    training: DetectorTraining = field(default_factory=DetectorTraining)
    label_map: FileSource | None = None
    start: FileSource | None = None

    def __post_init__(self) -> None:
        """Refuse a network that cannot be built while the configuration is read."""
        self.network()
        if self.pretrained and self.start is not None:
            raise DetectorConfigError(
                "pretrained: start says where the weights come from; give one"
            )

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
    annotations: Path
    photos: Mapping[str, Path] = field(default_factory=dict)


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
    drawn_anew: str = ""
    left_out: str = ""


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
    """Train, or go on training, alone or with the other processes of torchrun."""
    from detector.training.together import join
    from detector.training.train import train_detector
    from storage.annotation_shards import read_annotations

    def tell(report: "StepReport") -> None:
        note = f"{report.phase}, loss {report.losses['total']:.3f}"
        progress.at(report.step, report.num_steps, unit="steps", note=note)

    # live statistics are those of a whole batch: one process a machine learns from all of it
    is_alone = config.network().norm == "batch"
    if is_alone and not is_writer():
        return Summary(num_in=0, num_out=0, num_quarantined=0, num_objects=0, num_steps=0)
    everything = read_annotations(inputs.annotations).objects
    objects = [image for image in everything if image.split == "train"]
    label_map = _label_map(config, objects)
    together = join(alone=is_alone)
    summary = train_detector(
        config=config.network(),
        training=config.training,
        sources=read_photos(inputs.images, inputs.photos),
        objects=objects,
        label_map=label_map,
        folder=outputs.detector,
        losses=outputs.losses,
        initialise=_initialise(config, label_map),
        on_photo=lambda done, total: progress.at(done, total, unit="photos"),
        on_step=tell,
        should_stop=should_stop,
        parts=config.parts if isinstance(config, CutConfig) else 1,
        together=together,
    )
    if is_writer():
        _write_about(summary, config, outputs)
    together.part()
    num_quarantined = len(summary.quarantined)
    return Summary(
        num_in=summary.num_photos + num_quarantined,
        num_out=summary.num_photos,
        num_quarantined=num_quarantined,
        num_objects=summary.num_objects,
        num_steps=summary.num_steps,
        drawn_anew=summary.started.drawn_anew,
        left_out=summary.started.left_out,
    )


def _label_map(config: Config, objects: "Sequence[ImageObjects]") -> "LabelMap":
    """The names that are learned."""
    from detector.training.photos import label_map_from
    from storage.published.label_maps import read_label_map

    if config.label_map is None:
        return label_map_from(objects)
    return read_label_map(local_path(config.label_map))


def _initialise(
    config: Config, label_map: "LabelMap"
) -> "Callable[[AttributeRCNN], Started] | None":
    """What gives the network its first weights; None for random ones."""
    from detector.training.start import imagenet_start, start_from

    if config.pretrained:
        return imagenet_start
    if config.start is None:
        return None
    start = local_path(config.start)
    return lambda model: start_from(start, model, label_map)


def _write_about(summary: "TrainingSummary", config: Config, outputs: Outputs) -> None:
    """What was set aside, and the card of the detector."""
    write_quarantine(outputs.losses.parent / QUARANTINE_NAME, summary.quarantined)
    parts = {
        "drawn anew, as the start lacks it": summary.started.drawn_anew,
        "left out of the start": summary.started.left_out,
    }
    learned = Learned(
        task="train_detector",
        facts={
            "photos": summary.num_photos,
            "objects": summary.num_objects,
            "updates": summary.num_steps,
            **({} if config.start is None else {n: told for n, told in parts.items() if told}),
        },
        losses=outputs.losses,
    )
    write_model_card(outputs.detector, learned)


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
