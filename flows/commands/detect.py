"""One photo to regions with tags: `oscar-flow detect`."""

from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.table import Table

from flows.commands.trained import config_of, detector_of
from flows.errors import FlowError, MissingModelError
from flows.stages.translate_tags import ENGLISH, Translator
from flows.stages.translate_tags import Config as Translating
from storage.artifacts import atomic_write_bytes
from storage.images import SUFFIXES, decode
from storage.records import DecodedImage, ImageRegions, ImageSource, ImageTags

if TYPE_CHECKING:
    from detector.config import RulesName
    from detector.engine import Precision

_NO_NAMES = "its classes have no names, so there are no tags; name them with --labelmap FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A photo, its regions, and a word for each.

    detector: which one saw it and how, a line each
    """

    image: DecodedImage
    regions: ImageRegions
    tags: ImageTags
    detector: tuple[str, ...] = ()

    def table(self) -> Table:
        """One line a region, most certain first."""
        table = Table(box=None, pad_edge=False)
        for heading in ("confidence", "object", "attributes", "tag", "x1", "y1", "x2", "y2"):
            table.add_column(heading, justify="right" if len(heading) == 2 else "left")
        for row, name in enumerate(self.regions.class_names):
            corners = (f"{edge:.0f}" for edge in self.regions.boxes[row])
            attributes = ", ".join(self.regions.attribute_names[row][:3])
            confidence = f"{self.regions.confidences[row]:.2f}"
            table.add_row(confidence, name, attributes, self.word(row), *corners)
        return table

    def word(self, row: int) -> str:
        """The tag of a region with its first attribute: red + car."""
        from translation.compose import compose

        attributes = self.tags.attributes[row]
        tag = self.tags.tags[row]
        return compose(attributes[0], tag) if attributes and tag else tag

    def label(self, row: int) -> str:
        """A region in both languages and its confidence: the tag, red car, 0.93."""
        names = (*self.regions.attribute_names[row][:1], self.regions.class_names[row])
        english, tag = " ".join(names), self.word(row)
        words = [english] if tag in ("", english) else [tag, english]
        return " ".join((*words, f"{self.regions.confidences[row]:.2f}"))

    def save(self, path: Path, *, threshold: float, most: int) -> str:
        """Draw the regions at or above a confidence on a copy of the photo, most certain first.

        Returns:
            What was drawn, a line.

        Raises:
            OSError: It cannot be written.
        """
        from flows.picture import Label, draw_regions

        order = (-self.regions.confidences).argsort(kind="stable").tolist()
        sure = [row for row in order if self.regions.confidences[row] >= threshold]
        labels = [
            Label(box=(float(x1), float(y1), float(x2), float(y2)), text=self.label(row))
            for row, (x1, y1, x2, y2) in zip(
                sure[:most], self.regions.boxes[sure[:most]], strict=True
            )
        ]
        picture = draw_regions(self.image.pixels, labels)
        with BytesIO() as drawn:
            picture.save(drawn, Image.registered_extensions()[path.suffix.lower()])
            atomic_write_bytes(path, drawn.getvalue())
        return f"drawn in {path}: {len(labels)} of {len(order)} regions"


def check_drawing(photo: Path, path: Path, threshold: float) -> None:
    """Refuse what cannot be drawn, or would cover the photo, before any work is done.

    Raises:
        FlowError: `path` has no ending of a picture, no folder, or is the photo itself; or the
            threshold is no confidence.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FlowError(f"{path}: not the name of a picture; end it in .png or .jpg")
    if not path.parent.is_dir():
        raise FlowError(f"{path.parent}: no such folder; make it, or save elsewhere")
    if path.exists() and photo.exists() and path.samefile(photo):
        raise FlowError(f"{path}: is the photo itself; save the drawing under another name")
    if not 0 <= threshold <= 1:
        raise FlowError(f"--threshold {threshold:g}: no confidence; want a number from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorWishes:
    """Which detector is to see, and how.

    weights:   folder or file of a detector instead of the run's
    label_map: of a file without one beside it
    rules:     instead of the run's, or of the detector's own
    """

    weights: Path | None = None
    label_map: Path | None = None
    precision: "Precision" = "exact"
    rules: "RulesName | None" = None


def see_photo(photo: Path, *, run: Path | None, wishes: DetectorWishes | None = None) -> Seen:
    """Detect and name what one photo shows.

    Args:
        photo: any picture file.
        run: a finished run whose detector and tag settings are used.
        wishes: what is to be otherwise.

    Raises:
        StorageError: The photo cannot be read.
        MissingModelError: No detector was named, or there is none.
        DetectorError: What was named is no detector.
    """
    wishes = wishes or DetectorWishes()
    if run is None and wishes.weights is None:
        raise MissingModelError("name a trained run with --run DIR, or a detector with --weights")
    image = decode(ImageSource(image_id=photo.stem, path=photo))
    from detector import load_detector  # torch; a mistake above is told without waiting for it
    from detector.config import describe_rules

    config = config_of(run) if run is not None else None
    weights = wishes.weights
    if weights is None:
        assert run is not None
        weights = detector_of(run)
    detector = load_detector(
        weights,
        wishes.label_map,
        precision=wishes.precision,
        preset=wishes.rules or (config.detect.rules if config is not None else None),
    )
    (regions,) = detector.detect([image])
    translating = config.translate_tags if config is not None else Translating()
    is_numbered = detector.label_map.is_numbered
    return Seen(
        image=image,
        regions=_spelt_out(regions) if is_numbered else regions,
        tags=_no_tags(regions) if is_numbered else Translator(translating).image(regions),
        detector=(
            *((_NO_NAMES,) if is_numbered else ()),
            f"detector {detector.fingerprint[:16]}, engine {detector.engine.describe()}",
            f"rules {describe_rules(detector.config.regions)}",
            *(f"assumed {line}" for line in detector.assumed),
        ),
    )


def _spelt_out(regions: ImageRegions) -> ImageRegions:
    """Regions whose numbers say what they are the numbers of."""
    return replace(
        regions,
        class_names=tuple(f"class {number}" for number in regions.class_names),
        attribute_names=tuple(
            tuple(f"attribute {number}" for number in numbers)
            for numbers in regions.attribute_names
        ),
    )


def _no_tags(regions: ImageRegions) -> ImageTags:
    """A record without words."""
    num = len(regions.class_names)
    return ImageTags(
        image_id=regions.image_id, tags=("",) * num, attributes=((),) * num, language=ENGLISH
    )
