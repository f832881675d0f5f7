"""One photo to regions with tags: `oscar-flow detect`."""

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from flows.commands.trained import config_of, detector_of
from flows.errors import FlowError, MissingModelError
from flows.stages.translate_tags import Config as Translating
from flows.stages.translate_tags import Translator
from storage.images import SUFFIXES
from storage.records import DecodedImage, ImageRegions, ImageSource, ImageTags


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A photo, its regions, and a word for each."""

    image: DecodedImage
    regions: ImageRegions
    tags: ImageTags

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

    def save(self, path: Path, *, threshold: float) -> None:
        """Draw the regions at or above a confidence on a copy of the photo.

        Raises:
            OSError: It cannot be written.
        """
        from flows.picture import Label, draw_regions

        labels = [
            Label(box=(float(x1), float(y1), float(x2), float(y2)), text=self.word(row))
            for row, (x1, y1, x2, y2) in enumerate(self.regions.boxes)
            if self.regions.confidences[row] >= threshold
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_regions(self.image.pixels, labels).save(path)


def check_picture_name(path: Path) -> None:
    """Refuse a file name that no picture can be saved under, before any work is done.

    Raises:
        FlowError: It has no ending of a picture.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise FlowError(f"{path}: not the name of a picture; end it in .png or .jpg")


def see_photo(photo: Path, *, run: Path | None, weights: Path | None) -> Seen:
    """Detect and name what one photo shows.

    Args:
        photo: any picture file.
        run: a finished run whose detector and tag settings are used.
        weights: folder of a detector instead of the run's.

    Raises:
        StorageError: The photo cannot be read.
        MissingModelError: No detector was named, or there is none.
    """
    from detector.checkpoints import read_detector
    from detector.config import rules_of
    from detector.detect import detect
    from storage.images import decode

    if run is None and weights is None:
        raise MissingModelError("name a trained run with --run DIR, or a detector with --weights")
    image = decode(ImageSource(image_id=photo.stem, path=photo))
    config = config_of(run) if run is not None else None
    folder = weights if weights is not None or run is None else detector_of(run)
    assert folder is not None
    loaded = read_detector(folder)
    chosen = config.detect.rules if config is not None else None
    rules = None if chosen is None else rules_of(chosen)
    regions = detect(loaded.model, [image], loaded.label_map, rules=rules)[0]
    translating = config.translate_tags if config is not None else Translating()
    return Seen(image=image, regions=regions, tags=Translator(translating).image(regions))
