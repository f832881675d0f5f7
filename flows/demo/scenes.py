"""Rendered scenes whose objects are known: the embedded demo's photographs.

A scene follows from (seed, split, index) alone. Boxes are x1, y1, x2, y2 in pixels of the scene,
x2 and y2 inside, and fit the drawn silhouette exactly (pixels covered by at least half).
One colour of every kind of object (`HELD_OUT`) is never drawn outside the test split.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flows.demo.backgrounds import BACKGROUNDS, paint_background
from flows.demo.shapes import CLASS_NAMES, MAX_ANGLE, Outline, cut_out, tight_box

WIDTH, HEIGHT = 320, 240
SPLITS = ("train", "val", "test")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 44, 48),
    "orange": (240, 126, 24),
    "yellow": (242, 204, 44),
    "green": (44, 158, 84),
    "blue": (36, 102, 212),
    "purple": (138, 62, 186),
    "black": (46, 48, 56),
}
PATTERNS = ("plain", "striped", "dotted")
SIZES = ("small", "large")
ATTRIBUTE_FAMILIES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "size": SIZES,
}
"""Attribute names by family; every object carries exactly one of each."""
HELD_OUT: dict[str, str] = {
    name: tuple(COLOURS)[(3 * number + 2) % len(COLOURS)] for number, name in enumerate(CLASS_NAMES)
}
"""The colour of each kind of object that only test scenes show."""

_HELD_OUT_SHARE = 0.5
_SIDES = {"small": (48, 64), "large": (94, 116)}
_MARGIN = 5
_MIN_SIDEWAYS = 44
_CREAM = np.array([252, 249, 240], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One object. corner: upper left of its square patch; box: see module legend."""

    class_name: str
    colour: str
    pattern: str
    size: str
    rgb: tuple[int, int, int]
    outline: Outline
    corner: tuple[int, int]
    phase: tuple[float, float]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 of the silhouette."""
        x1, y1, x2, y2 = tight_box(self.outline)
        left, top = self.corner
        return left + x1, top + y1, left + x2, top + y2

    @property
    def centre_x(self) -> float:
        """Middle of the box [pixels]."""
        return (self.box[0] + self.box[2]) / 2

    @property
    def attributes(self) -> tuple[str, str, str]:
        """Colour, pattern, size."""
        return self.colour, self.pattern, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything there is to know about one picture; the first two objects are its subjects."""

    seed: int
    split: str
    index: int
    background: str
    objects: tuple[SceneObject, ...]


def generator(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    """Random source of one scene; another purpose (0 layout, 1 paint, 2 text) is independent."""
    return np.random.default_rng([seed, SPLITS.index(split), index, purpose])


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Decide what one picture shows, without painting it."""
    rng = generator(seed, split, index, 0)
    num = int(rng.choice([2, 3, 4], p=[0.4, 0.45, 0.15]))
    sizes = _draw_sizes(rng, num)
    kinds = _draw_kinds(rng, num, shows_held_out=split == "test" and rng.random() < _HELD_OUT_SHARE)
    while True:
        objects = [_draw_object(rng, *kind, size) for kind, size in zip(kinds, sizes, strict=True)]
        corners = _place(rng, [placed.outline.side for placed in objects])
        if corners:
            break
    return Scene(
        seed=seed,
        split=split,
        index=index,
        background=str(rng.choice(BACKGROUNDS)),
        objects=tuple(
            _moved(placed, corner) for placed, corner in zip(objects, corners, strict=True)
        ),
    )


def render(scene: Scene) -> NDArray[np.uint8]:
    """Paint a scene; (240, 320, 3) uint8 RGB."""
    rng = generator(scene.seed, scene.split, scene.index, 1)
    canvas = paint_background(scene.background, rng, HEIGHT, WIDTH)
    for placed in sorted(scene.objects, key=lambda placed: placed.box[3]):
        _drop_shadow(canvas, placed)
        _paint(canvas, placed)
    painted: NDArray[np.uint8] = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return painted


def _draw_sizes(rng: np.random.Generator, num: int) -> list[str]:
    """Two subjects; they are the two largest by a wide margin where there are more objects."""
    if num == 2:
        return ["large" if rng.random() < 0.75 else "small" for _ in range(num)]
    return ["large", "large"] + ["small"] * (num - 2)


def _draw_kinds(
    rng: np.random.Generator, num: int, *, shows_held_out: bool
) -> list[tuple[str, str]]:
    """Class and colour of each object; every pair at most once, one class possibly twice."""
    classes = [CLASS_NAMES[i] for i in rng.permutation(len(CLASS_NAMES))[:num]]
    if num > 2 and rng.random() < 0.4:
        classes[-1] = classes[int(rng.integers(0, num - 1))]
    kinds: list[tuple[str, str]] = []
    for class_name in classes:
        allowed = [
            colour
            for colour in COLOURS
            if colour != HELD_OUT[class_name] and (class_name, colour) not in kinds
        ]
        kinds.append((class_name, str(rng.choice(allowed))))
    if shows_held_out:
        number = int(rng.integers(0, 2))
        kinds[number] = (kinds[number][0], HELD_OUT[kinds[number][0]])
    return kinds


def _draw_object(rng: np.random.Generator, class_name: str, colour: str, size: str) -> SceneObject:
    low, high = _SIDES[size]
    light = rng.uniform(0.93, 1.07)
    rgb = np.clip(np.array(COLOURS[colour]) * light + rng.uniform(-9, 9, 3), 0, 255)
    turn = MAX_ANGLE[class_name]
    return SceneObject(
        class_name=class_name,
        colour=colour,
        pattern=str(rng.choice(PATTERNS)),
        size=size,
        rgb=(int(rgb[0]), int(rgb[1]), int(rgb[2])),
        outline=Outline(
            class_name=class_name,
            side=int(rng.integers(low, high + 1)),
            is_mirrored=bool(rng.random() < 0.5),
            angle=int(rng.integers(-turn, turn + 1)),
        ),
        corner=(0, 0),
        phase=(float(rng.random()), float(rng.random())),
    )


def _moved(placed: SceneObject, corner: tuple[int, int]) -> SceneObject:
    return SceneObject(
        class_name=placed.class_name,
        colour=placed.colour,
        pattern=placed.pattern,
        size=placed.size,
        rgb=placed.rgb,
        outline=placed.outline,
        corner=corner,
        phase=placed.phase,
    )


def _place(rng: np.random.Generator, sides: Sequence[int]) -> list[tuple[int, int]]:
    """Upper left corners without overlap, the two subjects clearly side by side; [] on failure."""
    taken: list[tuple[int, int, int]] = []
    for number, side in enumerate(sides):
        for _ in range(40):
            x = int(rng.integers(_MARGIN, WIDTH - _MARGIN - side))
            y = int(rng.integers(_MARGIN, HEIGHT - _MARGIN - side))
            clear = all(
                x + side <= left or left + other <= x or y + side <= top or top + other <= y
                for left, top, other in taken
            )
            if clear and number == 1:
                left, _top, other = taken[0]
                clear = abs(x + side / 2 - left - other / 2) >= _MIN_SIDEWAYS
            if clear:
                taken.append((x, y, side))
                break
        else:
            return []
    return [(x, y) for x, y, _ in taken]


def _drop_shadow(canvas: NDArray[np.float32], placed: SceneObject) -> None:
    """Darken the canvas below and to the right of the object."""
    side, reach = placed.outline.side, 8
    scale = 3 if side < 80 else 5
    coverage = cut_out(placed.outline).coverage
    mask = Image.new("L", (side + 2 * reach, side + 2 * reach))
    mask.paste(Image.fromarray((coverage * 92).astype(np.uint8)), (reach, reach))
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(scale - 1)), dtype=np.float32) / 255
    left, top = placed.corner[0] - reach + scale - 1, placed.corner[1] - reach + scale
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + soft.shape[1], WIDTH), min(top + soft.shape[0], HEIGHT)
    canvas[y1:y2, x1:x2] *= 1 - soft[y1 - top : y2 - top, x1 - left : x2 - left, None]


def _paint(canvas: NDArray[np.float32], placed: SceneObject) -> None:
    """Lay one object on the canvas, in place."""
    cut, (left, top), side = cut_out(placed.outline), placed.corner, placed.outline.side
    patch = canvas[top : top + side, left : left + side]
    for layer in (cut.under, None, cut.over):
        colour = _body_colour(placed) if layer is None else layer[..., :3] * 255
        alpha = cut.body if layer is None else layer[..., 3]
        patch += (colour - patch) * alpha[..., None]


def _body_colour(placed: SceneObject) -> NDArray[np.float32]:
    """Colour with pattern and light from the upper left; (S, S, 3) float32."""
    side = placed.outline.side
    x = np.arange(side, dtype=np.float32)[None, :]
    y = np.arange(side, dtype=np.float32)[:, None]
    colour = np.array(placed.rgb, dtype=np.float32)
    cream = _pattern_weight(placed, x, y)[..., None]
    light = 1.10 - 0.20 * (x + 2 * y) / (3 * side)
    return np.asarray((colour + (_CREAM - colour) * cream) * light[..., None], dtype=np.float32)


def _pattern_weight(
    placed: SceneObject, x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How far each pixel takes the second, cream tone; (S, S) float32 in [0, 1]."""
    if placed.pattern == "plain":
        return np.zeros((len(y), x.shape[1]), dtype=np.float32)
    period = 15.0 if placed.size == "small" else 19.0
    across, down = placed.phase
    if placed.pattern == "striped":
        slope = 0.7071 if placed.outline.is_mirrored else -0.7071
        along = ((0.7071 * x + slope * y) / period + across) % 1.0
        distance = np.abs(along - 0.5) * period - 0.29 * period
        return np.asarray(np.clip(distance + 0.5, 0, 1), dtype=np.float32)
    row = np.floor(y / period + down)
    dx = ((x / period + across + 0.5 * (row % 2)) % 1.0 - 0.5) * period
    dy = ((y / period + down) % 1.0 - 0.5) * period
    distance = 0.31 * period - np.sqrt(dx * dx + dy * dy)
    return np.asarray(np.clip(distance + 0.5, 0, 1), dtype=np.float32)
