"""Draws regions with their English and Chinese tags on a photo, so that every label can be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flows.label_places import Box, LabelPlaces, Place

_COLOURS = ("#2563eb", "#b91c1c", "#047857", "#b45309", "#7c3aed", "#be185d", "#0e7490", "#4d7c0f")
_LONG_SIDE = 1280
"""A smaller photo is enlarged to it, so that the text is sharp [pixels]."""
_LEAST_FONT = 16
_PAPER = "#ffffff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One region to draw. box: x1, y1, x2, y2 in pixels of the photo."""

    box: Box
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """A label on its way to the picture; all in pixels of the picture."""

    box: Box
    text: str
    colour: str
    place: Place | None


def draw_regions(pixels: NDArray[np.uint8], labels: Sequence[Label]) -> Image.Image:
    """Return a copy of the photo with boxes and labels; no label covers another one.

    A label goes beside its box; where that is full to the nearest free place, with a line to its
    box; and where there is none near it, into a list below the photo, with a number at the box.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        labels: most certain first; the first ones get the best places.
    """
    photo = Image.fromarray(pixels)
    scale = max(1.0, _LONG_SIDE / max(photo.size))
    if scale > 1:
        size = (round(photo.width * scale), round(photo.height * scale))
        photo = photo.resize(size, Image.Resampling.BICUBIC)
    font = _font(max(_LEAST_FONT, round(max(photo.size) / 72)))
    drawn, listed = _placed(labels, scale, photo.size, font)
    _draw_boxes(photo, drawn, font)
    _draw_labels(photo, drawn, font)
    return _with_list(photo, listed, font)


def _placed(
    labels: Sequence[Label], scale: float, size: tuple[int, int], font: ImageFont.FreeTypeFont
) -> tuple[list[_Drawn], list[_Drawn]]:
    """All labels with their places, and those whose text goes into the list, numbered from 1."""
    places = LabelPlaces(*size)
    drawn: list[_Drawn] = []
    listed: list[_Drawn] = []
    for number, label in enumerate(labels):
        x1, y1, x2, y2 = (edge * scale for edge in label.box)
        box = (x1, y1, x2, y2)
        text, colour = label.text, _COLOURS[number % len(_COLOURS)]
        place = places.place(box, *_label_size(text, font))
        if place is None:
            text = str(len(listed) + 1)
            listed.append(_Drawn(box=box, text=f"{text}  {label.text}", colour=colour, place=None))
            place = places.place(box, *_label_size(text, font))
        drawn.append(_Drawn(box=box, text=text, colour=colour, place=place))
    return drawn, listed


def _draw_boxes(photo: Image.Image, drawn: Sequence[_Drawn], font: ImageFont.FreeTypeFont) -> None:
    """Outlines with a light rim, large boxes first, then the lines to labels that stand apart."""
    draw = ImageDraw.Draw(photo)
    line = max(2, round(font.size / 7))
    for each in sorted(drawn, key=lambda each: -_area(each.box)):
        draw.rectangle(_grown(each.box, 1), outline=_PAPER, width=line + 2)
        draw.rectangle(each.box, outline=each.colour, width=line)
    for each in drawn:
        if each.place is not None and each.place.leader is not None:
            draw.line(each.place.leader, fill=_PAPER, width=line + 2)
            draw.line(each.place.leader, fill=each.colour, width=line)


def _draw_labels(photo: Image.Image, drawn: Sequence[_Drawn], font: ImageFont.FreeTypeFont) -> None:
    draw = ImageDraw.Draw(photo)
    for each in drawn:
        if each.place is not None:
            left, top, right, bottom = each.place.area
            draw.rectangle((left, top, right - 1, bottom - 1), fill=each.colour, outline=_PAPER)
            middle = (top + bottom) / 2
            draw.text((left + _margin(font), middle), each.text, _PAPER, font, anchor="lm")


def _with_list(
    photo: Image.Image, listed: Sequence[_Drawn], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The photo with the listed labels below it, in as many columns as fit."""
    if not listed:
        return photo
    sizes = [_label_size(each.text, font) for each in listed]
    wide, high = max(width for width, _ in sizes), sizes[0][1]
    num_columns = max(1, int(photo.width // wide))
    num_rows = -(-len(listed) // num_columns)
    page = Image.new("RGB", (max(photo.width, round(wide)), photo.height + num_rows * high), _PAPER)
    page.paste(photo)
    draw = ImageDraw.Draw(page)
    for number, each in enumerate(listed):
        column, row = divmod(number, num_rows)
        left, middle = column * wide + _margin(font), photo.height + (row + 0.5) * high
        draw.text((left, middle), each.text, each.colour, font, anchor="lm")
    return page


def _label_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Width and height with margins; every label of a font is equally high."""
    return round(font.getlength(text)) + 2 * _margin(font), round(font.size * 1.4)


def _margin(font: ImageFont.FreeTypeFont) -> int:
    return max(3, round(font.size / 4))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _grown(box: Box, pixels: float) -> Box:
    return box[0] - pixels, box[1] - pixels, box[2] + pixels, box[3] + pixels


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans CJK (SIL Open Font License), as shipped by the package `manimgx-fonts-cjk`."""
    with as_file(files("manimgx_fonts_cjk").joinpath("NotoSansCJK-VF.otf.ttc")) as path:
        font = ImageFont.truetype(path, size, index=2)  # face 2 of the collection: Chinese
    font.set_variation_by_name("Medium")
    return font
