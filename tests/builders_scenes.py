"""Small pictures of coloured blocks on disk, with their true boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from storage.records import ImageObjects, ImageSource

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def block_objects(
    image_id: str,
    blocks: Sequence[tuple[int, int, int, int]],
    *,
    colours: Sequence[str] = ("red", "blue"),
    size: tuple[int, int] = (48, 64),
    split: str = "train",
    is_crowd: bool = False,
) -> ImageObjects:
    """Blocks at x1, y1, x2, y2; wide ones are of class "bar", others of class "box"."""
    return ImageObjects(
        image_id=image_id,
        height=size[0],
        width=size[1],
        boxes=np.array(blocks, dtype=np.float32).reshape(-1, 4),
        class_names=tuple("bar" if b[2] - b[0] > b[3] - b[1] else "box" for b in blocks),
        attributes=tuple((colours[i % len(colours)],) for i in range(len(blocks))),
        is_crowd=np.full(len(blocks), is_crowd),
        split=split,
        source="blocks",
    )


def write_photo(folder: Path, shown: ImageObjects) -> ImageSource:
    """Paint the blocks on grey; a PNG named after the image id."""
    pixels = np.full((shown.height, shown.width, 3), 128, dtype=np.uint8)
    for box, named in zip(shown.boxes.astype(int), shown.attributes, strict=True):
        pixels[box[1] : box[3] + 1, box[0] : box[2] + 1] = COLOURS[named[0]]
    path = folder / f"{shown.image_id.replace('/', '-')}.png"
    Image.fromarray(pixels).save(path)
    return ImageSource(image_id=shown.image_id, path=path)


def block_photos(
    folder: Path, num: int, *, split: str = "train", seed: int = 0
) -> tuple[list[ImageSource], list[ImageObjects]]:
    """Pictures of one or two blocks each, landscape and portrait."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    sources, objects = [], []
    for number in range(num):
        size = (48, 64) if number % 3 else (64, 48)
        blocks = []
        for place in range(1 + number % 2):
            width, height = ((24, 12), (14, 14))[int(rng.integers(0, 2))]
            x = int(rng.integers(0, size[1] - width))
            y = int(rng.integers(0, size[0] // 2 - height)) + place * size[0] // 2
            blocks.append((x, y, x + width - 1, y + height - 1))
        colours = [str(rng.choice(list(COLOURS))) for _ in blocks]
        shown = block_objects(
            f"blocks/{split}-{number}", blocks, colours=colours, size=size, split=split
        )
        sources.append(write_photo(folder, shown))
        objects.append(shown)
    return sources, objects
