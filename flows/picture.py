"""Draws regions with their English and Chinese tags on a photo, so that every label can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#db2777", "#0891b2", "#4d7c0f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One region to draw. box: x1, y1, x2, y2 in pixels of the photo."""

    box: tuple[float, float, float, float]
    text: str


def draw_regions(pixels: NDArray[np.uint8], labels: Sequence[Label]) -> Image.Image:
    """Return a copy of the photo with boxes and labels; no label covers another one.

    A label goes to the first free place along its box's edges, then to the nearest free row of
    the photo; photos under 480 pixels on the long side are enlarged first so that text fits.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        labels: most certain first; the first ones get the best places.
    """
    photo = Image.fromarray(pixels)
    scale = max(1.0, 800 / max(photo.size))
    if scale > 1:
        size = (round(photo.width * scale), round(photo.height * scale))
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    font = _font(max(14, round(max(photo.size) / 55)))
    draw = ImageDraw.Draw(photo)
    scaled = [tuple(edge * scale for edge in label.box) for label in labels]
    for number, box in enumerate(scaled):
        draw.rectangle(
            box, outline=_COLOURS[number % len(_COLOURS)], width=max(2, int(font.size) // 8)
        )
    taken: list[tuple[float, float, float, float]] = []
    for number, (label, box) in enumerate(zip(labels, scaled, strict=True)):
        left, top, right, bottom = draw.textbbox((0, 0), label.text, font=font)
        width, height = right - left + 8, bottom - top + 6
        place = _free_place(box, width, height, photo.size, taken)
        if place is None:
            continue
        taken.append((place[0], place[1], place[0] + width, place[1] + height))
        draw.rectangle(taken[-1], fill=_COLOURS[number % len(_COLOURS)])
        draw.text((place[0] + 4 - left, place[1] + 3 - top), label.text, font=font, fill="white")
    return photo


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans CJK (SIL Open Font License), as shipped by the package `manimgx-fonts-cjk`."""
    with as_file(files("manimgx_fonts_cjk").joinpath("NotoSansCJK-VF.otf.ttc")) as path:
        font = ImageFont.truetype(path, size, index=2)  # face 2 of the collection: Chinese
    font.set_variation_by_name("Medium")
    return font


def _free_place(
    box: Sequence[float],
    width: float,
    height: float,
    photo_size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float] | None:
    """Upper left corner for a label of the given size, or None where the photo is full."""
    x1, y1, x2, y2 = box
    around = [(x1, y1 - height), (x1, y1), (x1, y2 - height), (x1, y2), (x2 - width, y1 - height)]
    rows = sorted(np.arange(0, photo_size[1] - height, height), key=lambda row: abs(row - y1))
    for x, y in [*around, *((x1, float(row)) for row in rows)]:
        x = min(max(0.0, x), photo_size[0] - width)
        y = min(max(0.0, y), photo_size[1] - height)
        clear = all(
            x + width <= left or x >= right or y + height <= top or y >= bottom
            for left, top, right, bottom in taken
        )
        if clear:
            return x, y
    return None
