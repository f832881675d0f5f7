"""Pictures for Prefect's pages, small enough to stand in its database: loss curves, seen photos."""

import base64
import io
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from flows.picture import Label, draw_regions
from flows.report.album import spread
from flows.report.gallery import shown_regions
from flows.report.records import LossChart, RegionShown
from flows.report.stored import Stored
from storage.errors import StorageError
from storage.images import decode
from storage.records import ImageSource

MAX_BYTES = 40_000
"""Of one photo."""
SEEN_SIDE, PHOTO_SIDE = 600, 260
"""Long side of a photo with boxes, and of one beside text [pixels]."""
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#db2777", "#0891b2")
_SIZE = (760, 340)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 170, 16, 34
_TICKS = 4
_QUALITIES = (80, 60, 40, 20)
_WILD = 0.98
"""The axis ends at this quantile of the values, where a few steps jump far above it."""


def draw_losses(chart: LossChart) -> str:
    """Curves over steps, named at the right; data URL of a PNG."""
    image = Image.new("RGB", _SIZE, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    last = max(curve.steps[-1] for curve in chart.curves)
    values = sorted(value for curve in chart.curves for value in curve.values)
    top = max(values[round(_WILD * (len(values) - 1))] * 1.1, 1e-9)
    for at in range(_TICKS + 1):
        y = _y(top * at / _TICKS, top)
        draw.line([(_LEFT, y), (_SIZE[0] - _RIGHT, y)], fill="#d4d4d8")
        draw.text((_LEFT - 6, y), f"{top * at / _TICKS:.3g}", "#52525b", font, anchor="rm")
    for step, anchor in ((0, "lt"), (last, "rt")):
        place = (_x(step, last), _SIZE[1] - _BOTTOM + 8)
        draw.text(place, f"{step:,} steps" if step else "0", "#52525b", font, anchor=anchor)
    for mark in chart.phases:
        x = _x(mark.step - 1, last)
        draw.line([(x, _TOP), (x, _SIZE[1] - _BOTTOM)], fill="#a1a1aa")
        draw.text((x + 4, _TOP), mark.name, "#52525b", font)
    for number, curve in reversed(list(enumerate(chart.curves))):
        points = [
            (_x(step, last), _y(min(value, top), top))
            for step, value in zip(curve.steps, curve.values, strict=True)
        ]
        colour = _COLOURS[number % len(_COLOURS)]
        draw.line(points if len(points) > 1 else points * 2, fill=colour, width=2, joint="curve")
        place = (_SIZE[0] - _RIGHT + 12, _TOP + 6 + 20 * number)
        draw.text(place, f"{curve.name}  {curve.values[-1]:.3g}", colour, font)
    stream = io.BytesIO()
    image.quantize(64, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return data_url("png", stream.getvalue())


def seen_photos(
    stored: Stored, sources: Sequence[ImageSource], num: int
) -> Iterator[tuple[ImageSource, str]]:
    """Photos at even distances over the listed ones, with what was seen drawn on them.

    Yields:
        The photo, and a data URL of the drawing.
    """
    known = [source for source in sources if source.image_id in stored.regions]
    for source in spread(known, num):
        try:
            pixels = decode(source).pixels
        except StorageError:
            continue  # gone since; the step that read it has told of it
        name = source.image_id
        shown = shown_regions(stored.regions.get(name), stored.tags.get(name))
        height, width = pixels.shape[:2]
        labels = [_label(region, width, height) for region in shown if region.is_drawn]
        yield source, _small_jpeg(draw_regions(pixels, labels), SEEN_SIDE)


def small_photo(source: ImageSource) -> str:
    """Data URL of a small copy.

    Raises:
        StorageError: The photo cannot be read.
    """
    return _small_jpeg(Image.fromarray(decode(source).pixels), PHOTO_SIDE)


def _small_jpeg(image: Image.Image, side: int) -> str:
    """Data URL of a JPEG, of the best quality that keeps it below the limit."""
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= MAX_BYTES:
            break
    return data_url("jpeg", content)


def data_url(kind: str, content: bytes) -> str:
    """A picture as text that a page shows without fetching anything."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _label(region: RegionShown, width: int, height: int) -> Label:
    left, top = region.left * width, region.top * height
    return Label(
        box=(left, top, left + region.width * width - 1, top + region.height * height - 1),
        text=" ".join(filter(None, (region.english, region.chinese))),
    )


def _x(step: int, last: int) -> float:
    return _LEFT + step / max(1, last) * (_SIZE[0] - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _SIZE[1] - _BOTTOM - value / top * (_SIZE[1] - _TOP - _BOTTOM)
