"""Draws the eight kinds of object of the demo scenes as antialiased cut-outs.

Unit frame of a shape: x to the right, y down, both in [-1, 1]; the whole object fits inside.
Letters: S side of the square patch in pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_OVERSAMPLING = 3
_Points = Sequence[tuple[float, float]]
_Rgba = tuple[int, int, int, int]

_WOOD = (124, 84, 54, 255)
_DARK = (38, 40, 48, 255)
_STEEL = (150, 156, 166, 255)
_GLASS = (214, 234, 245, 255)
_PAPER = (250, 246, 234, 255)
_GLOSS = (255, 255, 255, 84)
_SHADE = (0, 0, 0, 44)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What decides the silhouette of one object; equal outlines give equal pixels.

    side:  edge of the square patch [pixels]
    angle: turn to the right [degrees]
    """

    class_name: str
    side: int
    is_mirrored: bool
    angle: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOut:
    """One drawn object without its colour; all arrays in [0, 1].

    coverage: (S, S) float32     how far the object covers each pixel
    body:     (S, S) float32     the part that takes the object's colour and pattern
    under:    (S, S, 4) float32  fixed-colour parts below the body, straight alpha
    over:     (S, S, 4) float32  fixed-colour parts above it
    """

    coverage: NDArray[np.float32]
    body: NDArray[np.float32]
    under: NDArray[np.float32]
    over: NDArray[np.float32]


class _Pen:
    """Collects polygons of one shape on oversampled layers."""

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._pixels = outline.side * _OVERSAMPLING
        size = (self._pixels, self._pixels)
        self.layers = {
            "body": Image.new("L", size),
            "coverage": Image.new("L", size),
            "under": Image.new("RGBA", size),
            "over": Image.new("RGBA", size),
        }
        self._draws = {name: ImageDraw.Draw(layer) for name, layer in self.layers.items()}

    def body(self, points: _Points) -> None:
        """Add a polygon in the object's own colour."""
        placed = self._place(points)
        self._draws["body"].polygon(placed, fill=255)
        self._draws["coverage"].polygon(placed, fill=255)

    def solid(self, points: _Points, colour: _Rgba, *, layer: str = "over") -> None:
        """Add a polygon of fixed colour that belongs to the silhouette."""
        placed = self._place(points)
        self._draws[layer].polygon(placed, fill=colour)
        self._draws["coverage"].polygon(placed, fill=255)

    def overlay(self, points: _Points, colour: _Rgba) -> None:
        """Add light or shade on the body; it does not widen the silhouette."""
        self._draws["over"].polygon(self._place(points), fill=colour)

    def _place(self, points: _Points) -> list[tuple[float, float]]:
        turn = math.radians(self._outline.angle)
        cosine, sine = math.cos(turn), math.sin(turn)
        sign = -1.0 if self._outline.is_mirrored else 1.0
        half = self._pixels / 2
        placed = []
        for x, y in points:
            x *= sign
            placed.append(
                (half + half * (x * cosine - y * sine), half + half * (x * sine + y * cosine))
            )
        return placed


def _ellipse(
    x: float, y: float, width: float, height: float, start: float = 0, stop: float = 360
) -> list[tuple[float, float]]:
    """Points of an ellipse or of a part of it; half-axes in unit frame, angles in degrees."""
    num = max(8, round(abs(stop - start) / 7.5))
    angles = np.radians(np.linspace(start, stop, num + 1))
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


def _ball(pen: _Pen) -> None:
    pen.body(_ellipse(0, 0, 0.94, 0.94))
    pen.overlay(_ellipse(-0.36, -0.42, 0.26, 0.18), _GLOSS)


def _car(pen: _Pen) -> None:
    cabin = [(-0.58, -0.02), (-0.36, -0.50), (0.26, -0.50), (0.56, -0.02)]
    hull = [(-0.97, 0.06), (-0.90, -0.06), (0.82, -0.06), (0.97, 0.10), (0.97, 0.40), (-0.97, 0.40)]
    pen.body(cabin)
    pen.body(hull)
    pen.overlay([(-0.42, -0.06), (-0.28, -0.40), (-0.06, -0.40), (-0.06, -0.06)], _GLASS)
    pen.overlay([(0.04, -0.06), (0.04, -0.40), (0.22, -0.40), (0.40, -0.06)], _GLASS)
    for x in (-0.54, 0.54):
        pen.solid(_ellipse(x, 0.40, 0.24, 0.24), _DARK)
        pen.overlay(_ellipse(x, 0.40, 0.10, 0.10), _STEEL)


def _tree(pen: _Pen) -> None:
    pen.solid([(-0.13, 0.2), (0.13, 0.2), (0.18, 0.97), (-0.18, 0.97)], _WOOD, layer="under")
    for top, bottom, width in ((-0.97, -0.22, 0.46), (-0.60, 0.18, 0.64), (-0.20, 0.62, 0.82)):
        pen.body([(0, top), (width, bottom), (-width, bottom)])


def _fish(pen: _Pen) -> None:
    pen.body(_ellipse(-0.18, 0, 0.78, 0.52))
    pen.body([(0.40, 0.0), (0.97, -0.50), (0.84, 0.0), (0.97, 0.50)])
    pen.body([(-0.30, -0.46), (0.12, -0.74), (0.24, -0.36)])
    pen.overlay(_ellipse(-0.60, -0.12, 0.125, 0.125), _PAPER)
    pen.overlay(_ellipse(-0.63, -0.12, 0.065, 0.065), _DARK)


def _umbrella(pen: _Pen) -> None:
    pen.solid(
        [(-0.035, -0.96), (0.035, -0.96), (0.035, 0.78), (-0.035, 0.78)], _DARK, layer="under"
    )
    hook = _ellipse(0.18, 0.76, 0.215, 0.20, 180, 0) + _ellipse(0.18, 0.76, 0.145, 0.13, 0, 180)
    pen.solid(hook, _DARK, layer="under")
    dome = _ellipse(0, 0.06, 0.95, 0.92, 180, 360)
    scallops: list[tuple[float, float]] = []
    for centre in (0.7125, 0.2375, -0.2375, -0.7125):
        scallops += _ellipse(centre, 0.06, 0.2375, 0.14, 0, -180)
    pen.body(dome + scallops)
    for edge in (0.475, 0.0, -0.475):
        rib = [(0, -0.86), (edge + 0.022, 0.06), (edge - 0.022, 0.06)]
        pen.overlay(rib, _SHADE)


def _star(pen: _Pen) -> None:
    points = []
    for corner in range(10):
        radius = 0.98 if corner % 2 == 0 else 0.48
        angle = math.radians(36 * corner - 90)
        points.append((radius * math.cos(angle), 0.04 + radius * math.sin(angle)))
    pen.body(points)


def _boat(pen: _Pen) -> None:
    pen.solid([(-0.05, -0.95), (0.02, -0.95), (0.02, 0.6), (-0.05, 0.6)], _WOOD, layer="under")
    pen.body([(0.06, -0.92), (0.86, 0.34), (0.06, 0.34)])
    pen.body([(-0.10, -0.66), (-0.10, 0.34), (-0.74, 0.34)])
    pen.solid([(-0.95, 0.46), (0.97, 0.46), (0.66, 0.90), (-0.64, 0.90)], _WOOD)
    pen.overlay([(-0.95, 0.46), (0.97, 0.46), (0.91, 0.55), (-0.88, 0.55)], (233, 222, 200, 255))


def _book(pen: _Pen) -> None:
    pen.solid([(-0.66, -0.80), (0.80, -0.80), (0.80, 0.93), (-0.66, 0.93)], _PAPER, layer="under")
    pen.body([(-0.78, -0.93), (0.68, -0.93), (0.68, 0.80), (-0.78, 0.80)])
    pen.solid([(-0.78, 0.80), (-0.66, 0.93), (-0.60, 0.93), (-0.60, 0.80)], _DARK, layer="under")
    pen.overlay([(-0.78, -0.93), (-0.58, -0.93), (-0.58, 0.80), (-0.78, 0.80)], _SHADE)


_PAINTERS: dict[str, Callable[[_Pen], None]] = {
    "ball": _ball,
    "car": _car,
    "tree": _tree,
    "fish": _fish,
    "umbrella": _umbrella,
    "star": _star,
    "boat": _boat,
    "book": _book,
}
CLASS_NAMES = tuple(_PAINTERS)
"""English names of the kinds of object, in label-map order."""

MAX_ANGLE = {
    "ball": 0,
    "car": 4,
    "tree": 3,
    "fish": 14,
    "umbrella": 14,
    "star": 14,
    "boat": 6,
    "book": 10,
}
"""Largest turn to either side that suits each kind [degrees]."""


@lru_cache(maxsize=32)
def cut_out(outline: Outline) -> CutOut:
    """Draw one object; cached, so that finding its box and painting it cost one drawing."""
    pen = _Pen(outline)
    _PAINTERS[outline.class_name](pen)
    small = {name: layer.reduce(_OVERSAMPLING) for name, layer in pen.layers.items()}
    arrays: dict[str, NDArray[np.float32]] = {
        name: np.asarray(layer, dtype=np.float32) / np.float32(255) for name, layer in small.items()
    }
    return CutOut(**arrays)


def tight_box(outline: Outline) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 (x2, y2 inside) of the pixels covered by half, in the patch's frame."""
    covered = cut_out(outline).coverage >= 0.5
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
