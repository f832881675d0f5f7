"""Paints the pale backgrounds of the demo scenes.

Letters: H, W height and width of the scene in pixels. Colours are float32 RGB in [0, 255].
"""

import colorsys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_Canvas = NDArray[np.float32]


def _pastel(
    rng: np.random.Generator, hue: float, *, value: float, saturation: float = 0.14
) -> _Canvas:
    """One pale colour near the given hue (in turns); (3,) float32."""
    hue = (hue + rng.uniform(-0.07, 0.07)) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation * rng.uniform(0.5, 1.3), value)
    return np.array([red, green, blue], dtype=np.float32) * 255


def _blend(low: _Canvas, high: _Canvas, weight: NDArray[np.floating[Any]]) -> _Canvas:
    """Mix two colours by a (H, W) or (H, 1) weight in [0, 1]."""
    return np.asarray(low + (high - low) * weight[..., None], dtype=np.float32)


def _rows(height: int) -> _Canvas:
    return np.linspace(0, 1, height, dtype=np.float32)[:, None]


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> _Canvas:
    """Soft noise of zero mean and about unit deviation; (H, W)."""
    coarse = rng.standard_normal((height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32
    )


@lru_cache(maxsize=2)
def _grain(height: int, width: int) -> _Canvas:
    """Fine grain of unit deviation, the same for every scene up to a shift; (H, W)."""
    return np.random.default_rng(0).standard_normal((height, width)).astype(np.float32)


def _studio(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    hue = rng.random()
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] - np.float32(rng.uniform(-0.5, 0.5))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] + np.float32(rng.uniform(0, 0.5))
    distance = np.clip((x * x + y * y) / 2.2, 0, 1)
    return _blend(_pastel(rng, hue, value=0.97), _pastel(rng, hue, value=0.80), distance)


def _horizon(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    hue = rng.random()
    rows = _rows(height)
    sky = _blend(
        _pastel(rng, hue, value=0.86, saturation=0.22), _pastel(rng, hue, value=0.98), rows
    )
    meadow = hue + 0.3
    ground = _blend(_pastel(rng, meadow, value=0.8), _pastel(rng, meadow, value=0.9), rows)
    line = np.float32(rng.uniform(0.5, 0.72))
    below = np.clip((rows - line) * height + 0.5, 0, 1)
    picture = sky + (ground - sky) * below[..., None]
    return np.broadcast_to(picture, (height, width, 3)).copy()


def _hills(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    hue = rng.random()
    rows = _rows(height)
    picture = _blend(_pastel(rng, hue, value=0.9), _pastel(rng, hue, value=0.98), rows)
    picture = np.broadcast_to(picture, (height, width, 3)).copy()
    x = np.linspace(0, 2 * np.pi, width, dtype=np.float32)[None, :]
    tone = _pastel(rng, hue + 0.3, value=0.86, saturation=0.2)
    for level, value in ((0.48, 1.0), (0.63, 0.93), (0.8, 0.86)):
        crest = level + 0.05 * np.sin(x * rng.uniform(0.7, 1.6) + rng.uniform(0, 6.3))
        below = np.clip((rows - crest.astype(np.float32)) * height + 0.5, 0, 1)[..., None]
        picture += (tone * np.float32(value) - picture) * below
    return picture


def _room(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    hue = rng.random()
    rows = _rows(height)
    wall = np.broadcast_to(
        _pastel(rng, hue, value=0.92, saturation=0.16), (height, width, 3)
    ).copy()
    light = np.linspace(1.05, 0.93, width, dtype=np.float32)[None, :, None]
    wall *= light if rng.random() < 0.5 else light[:, ::-1]
    line = np.float32(rng.uniform(0.62, 0.78))
    floor = _pastel(rng, hue + 0.4, value=0.74, saturation=0.22)
    board = np.clip((rows - line) * height + 0.5, 0, 1)[..., None]
    wall += (np.float32(246) - wall) * board
    below = np.clip((rows - line) * height - 5.5, 0, 1)[..., None]
    wall += (floor * (1.12 - 0.2 * rows[..., None]) - wall) * below
    return wall


def _paper(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    hue = rng.random()
    clouds = (
        _smooth_noise(rng, height, width, 40) * 0.7 + _smooth_noise(rng, height, width, 12) * 0.3
    )
    weight = np.clip(0.5 + 0.4 * clouds, 0, 1)
    return _blend(_pastel(rng, hue, value=0.84), _pastel(rng, hue, value=0.96), weight)


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int], _Canvas]] = {
    "studio": _studio,
    "horizon": _horizon,
    "hills": _hills,
    "room": _room,
    "paper": _paper,
}
BACKGROUNDS = tuple(_PAINTERS)
"""Names of the kinds of background."""


def paint_background(kind: str, rng: np.random.Generator, height: int, width: int) -> _Canvas:
    """Return a (H, W, 3) float32 canvas with a little grain, to be painted on."""
    canvas = _PAINTERS[kind](rng, height, width)
    shift = tuple(int(rng.integers(0, size)) for size in (height, width))
    canvas += np.roll(_grain(height, width), shift, axis=(0, 1))[..., None] * np.float32(2.2)
    return canvas
