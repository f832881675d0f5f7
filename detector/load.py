"""One call from weights to a detector, one from photos to regions.

    from detector import load_detector

    detector = load_detector("vinvl_vg_x152c4.pth", "VG-SGG-dicts-vgoi6-clipped.json")
    [regions] = detector.detect(["photo.jpg"])

Letters: N photos.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.checkpoints import read_detector
from detector.compat import Compat
from detector.config import DetectorConfig, RegionRules, RulesName, describe_rules, rules_of
from detector.detect import detect
from detector.engine import Engine, Precision
from detector.engines import prepare
from detector.errors import DetectorConfigError, DetectorError
from detector.preprocess import network_size
from storage.images import decode
from storage.published.label_maps import LabelMap
from storage.records import DecodedImage, ImageRegions, ImageSource

Photo = DecodedImage | NDArray[np.uint8] | str | Path
"""A decoded record, pixels (H, W, 3) RGB, or a file."""
_PRECISIONS = ("exact", "fast")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A detector that is ready to see.

    engine:      what computes
    label_map:   names of classes and attributes
    fingerprint: SHA-256 of weights, names and settings of the network; shards name it
    assumed:     settings that the file did not tell, a line each
    """

    engine: Engine
    label_map: LabelMap
    fingerprint: str
    assumed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line; the weights are many."""
        return (
            f"Detector({self.engine.describe()}, {self.config.num_classes} classes, "
            f"{self.config.num_attributes} attributes, fingerprint {self.fingerprint})"
        )

    @property
    def config(self) -> DetectorConfig:
        """Settings of the network, and in `regions` the rules by which regions are kept."""
        return self.engine.config

    def detect(
        self,
        images: Sequence[Photo],
        *,
        rules: RegionRules | RulesName | None = None,
        compat: Compat | None = None,
        batch_size: int = 8,
    ) -> list[ImageRegions]:
        """See photos; regions come by falling confidence, boxes in pixels of the photo.

        The regions of a photo do not depend on the others: on a CPU each is computed by itself,
        elsewhere photos of equal network size share a batch.

        Args:
            images: N photos; a file is named by its stem, an array by its number.
            rules: Which regions are kept; None takes those of the detector.
            compat: Quirks of the original; None for those of the rules.
            batch_size: Most photos of one size that are computed together.

        Raises:
            DetectorError: Something among the images is no photo, or the network computes numbers
                that are not finite.
            UnreadableImageError: A file cannot be decoded.
        """
        if isinstance(images, str | Path | np.ndarray | DecodedImage):
            raise DetectorError("detect takes a list of photos; put the one into brackets")
        chosen = self.config.regions if rules is None else rules_of(rules)
        is_cpu = self.engine.device.type == "cpu"
        found: dict[int, ImageRegions] = {}
        for batch in self._batches(images, 1 if is_cpu else batch_size):
            numbers, photos = zip(*batch, strict=True)
            seen = detect(self.engine, photos, self.label_map, rules=chosen, compat=compat)
            found |= zip(numbers, seen, strict=True)
        return [found[number] for number in range(len(found))]

    def _batches(
        self, images: Sequence[Photo], batch_size: int
    ) -> Iterable[list[tuple[int, DecodedImage]]]:
        """Photos with their numbers, those of one network size together."""
        waiting: dict[tuple[int, int], list[tuple[int, DecodedImage]]] = {}
        for number, image in enumerate(images):
            photo = _decoded(image, number)
            height, width = photo.pixels.shape[:2]
            size = network_size(
                height, width, min_size=self.config.min_size, max_size=self.config.max_size
            )
            group = waiting.setdefault(size, [])
            group.append((number, photo))
            if len(group) == batch_size:
                yield waiting.pop(size)
        yield from waiting.values()


def load_detector(
    weights: str | Path,
    labelmap: str | Path | LabelMap | None = None,
    *,
    precision: Precision = "exact",
    device: str = "auto",
    preset: RulesName | RegionRules | None = None,
    settings: str | Path | Mapping[str, Any] | None = None,
) -> Detector:
    """Read a detector and make it ready for this machine; the log tells its fingerprint.

    Args:
        weights: A detector folder of ours, or a file in the layout of scene_graph_benchmark
            (`vinvl_vg_x152c4.pth`) or detectron2 (`.pth`, `.pkl`). Sizes are read off its tensors.
        labelmap: `VG-SGG-dicts-vgoi6-clipped.json` or one of its kind; None takes a label map
            beside the weights, or numbers. A folder has its own.
        precision: "exact" for the regions of the original in float32, "fast" for the best that the
            machine does.
        device: "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one.
        preset: Rules by which regions are kept: `vinvl_released`, `vinvl_readme`, or own ones. None
            takes the detector's; those of a published file are `vinvl_released`.
        settings: YAML of the original, or its full setting names, for what tensors do not tell
            (`Detector.assumed`); None takes the YAML of the same name beside the weights.

    Raises:
        CheckpointError: A tensor is missing, unexpected or misshapen; a file is damaged.
        DetectorConfigError: Weights that are no path; settings, precision, preset or device that
            do not exist.
        StorageError: The label map cannot be read.
    """
    if not isinstance(weights, str | Path):
        raise DetectorConfigError(f"weights {weights!r}: want a detector's folder or file")
    if precision not in _PRECISIONS:
        raise DetectorConfigError(f"no precision {precision!r}; there are {', '.join(_PRECISIONS)}")
    rules, place = None if preset is None else rules_of(preset), _device(device)
    labels = Path(labelmap) if isinstance(labelmap, str) else labelmap
    stated = Path(settings) if isinstance(settings, str) else settings
    loaded = read_detector(Path(weights), labels, stated)
    if rules is not None:
        loaded.model.config = replace(loaded.model.config, regions=rules)
    engine = prepare(loaded.model, precision, device=place, ranges=loaded.ranges)
    told = (loaded.fingerprint, engine.describe(), describe_rules(engine.config.regions))
    _LOG.info("detector %s: fingerprint %s, engine %s, rules %s", Path(weights).name, *told)
    return Detector(
        engine=engine,
        label_map=loaded.label_map,
        fingerprint=loaded.fingerprint,
        assumed=loaded.assumed,
    )


def _device(wanted: str) -> str:
    """The device of a name, "auto" resolved.

    Raises:
        DetectorConfigError: There is no such device here.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DetectorConfigError(f"no device {wanted!r} here; take 'cpu' or 'auto'") from error
    return str(device)


def _decoded(image: Photo, number: int) -> DecodedImage:
    """A photo in memory."""
    if isinstance(image, DecodedImage):
        return image
    if isinstance(image, str | Path):
        return decode(ImageSource(image_id=Path(image).stem, path=Path(image)))
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise DetectorError(
            f"image {number}: want (height, width, 3) uint8 RGB, not {pixels.shape} {pixels.dtype}"
        )
    pixels = np.ascontiguousarray(pixels)
    return DecodedImage(
        image_id=str(number), pixels=pixels, content_hash=sha256(pixels.data).hexdigest()
    )
