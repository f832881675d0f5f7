"""The truth about the demo's pictures, for metrics that need more than annotations offer."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.demo.scenes import ATTRIBUTE_FAMILIES, HELD_OUT, Scene
from storage.artifacts import atomic_write_text

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueObject:
    """One drawn object. box: x1, y1, x2, y2, both ends inside [pixels]."""

    class_name: str
    colour: str
    pattern: str
    size: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueImage:
    """One picture; `shows_held_out` if it holds a class and colour that training never shows."""

    image_id: str
    split: str
    shows_held_out: bool
    objects: tuple[TrueObject, ...]

    @property
    def colour_phrases(self) -> list[tuple[str, str]]:
        """The (colour, class name) pairs that may truly be said of the picture."""
        return [(shown.colour, shown.class_name) for shown in self.objects]


def true_image(image_id: str, scene: Scene) -> TrueImage:
    """Put down what a scene shows."""
    return TrueImage(
        image_id=image_id,
        split=scene.split,
        shows_held_out=any(HELD_OUT[p.class_name] == p.colour for p in scene.objects),
        objects=tuple(
            TrueObject(
                class_name=placed.class_name,
                colour=placed.colour,
                pattern=placed.pattern,
                size=placed.size,
                box=placed.box,
            )
            for placed in scene.objects
        ),
    )


def write_truth(path: Path, images: Sequence[TrueImage]) -> None:
    """Write `truth.json` whole."""
    content = {
        "version": _VERSION,
        "attribute_families": ATTRIBUTE_FAMILIES,
        "held_out": HELD_OUT,
        "images": [asdict(image) for image in images],
    }
    atomic_write_text(path, json.dumps(content, ensure_ascii=False))


def read_truth(path: Path) -> dict[str, TrueImage]:
    """Read `truth.json`; image_id -> image.

    Raises:
        ValueError: The file is of another version.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["version"] != _VERSION:
        raise ValueError(f"{path}: version {content['version']}, expected {_VERSION}")
    images = {}
    for row in content["images"]:
        objects = tuple(
            TrueObject(**(shown | {"box": tuple(shown["box"])})) for shown in row["objects"]
        )
        images[row["image_id"]] = TrueImage(**(row | {"objects": objects}))
    return images
