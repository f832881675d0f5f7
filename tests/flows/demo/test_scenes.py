import numpy as np
import pytest

from flows.demo.scenes import (
    ATTRIBUTE_FAMILIES,
    COLOURS,
    HEIGHT,
    HELD_OUT,
    WIDTH,
    Scene,
    make_scene,
    render,
)
from flows.demo.shapes import CLASS_NAMES, cut_out

SCENES = [make_scene(7, split, index) for split in ("train", "test") for index in range(60)]


def kinds_of(scene: Scene) -> list[tuple[str, str]]:
    return [(placed.class_name, placed.colour) for placed in scene.objects]


def test_a_scene_follows_from_its_numbers() -> None:
    assert make_scene(7, "train", 3) == SCENES[3]
    assert make_scene(8, "train", 3) != SCENES[3]
    assert np.array_equal(render(SCENES[3]), render(make_scene(7, "train", 3)))


def test_every_class_has_a_colour_that_only_the_test_shows() -> None:
    assert HELD_OUT.keys() == set(CLASS_NAMES)
    for scene in SCENES:
        held = [kind for kind in kinds_of(scene) if HELD_OUT[kind[0]] == kind[1]]
        assert len(held) <= (1 if scene.split == "test" else 0)
    shows = [any(HELD_OUT[c] == colour for c, colour in kinds_of(s)) for s in SCENES[60:]]
    assert 20 <= sum(shows) <= 40


def test_no_scene_says_the_same_of_two_objects() -> None:
    for scene in SCENES:
        assert len(set(kinds_of(scene))) == len(scene.objects)
        assert 2 <= len(scene.objects) <= 4


def test_objects_carry_one_name_of_each_family() -> None:
    for placed in SCENES[0].objects:
        for family, name in zip(ATTRIBUTE_FAMILIES.values(), placed.attributes, strict=True):
            assert name in family


def test_boxes_lie_inside_and_do_not_overlap() -> None:
    for scene in SCENES:
        boxes = [placed.box for placed in scene.objects]
        for x1, y1, x2, y2 in boxes:
            assert 0 <= x1 < x2 < WIDTH
            assert 0 <= y1 < y2 < HEIGHT
        for a in boxes:
            for b in boxes:
                apart = a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
                assert a is b or apart


def test_large_objects_are_larger_than_small_ones() -> None:
    sides = {"small": [], "large": []}
    for scene in SCENES:
        for placed in scene.objects:
            sides[placed.size].append(placed.outline.side)
    assert max(sides["small"]) + 20 < min(sides["large"])


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_box_fits_the_drawn_silhouette(class_name: str) -> None:
    placed = next(p for scene in SCENES for p in scene.objects if p.class_name == class_name)
    covered = cut_out(placed.outline).coverage >= 0.5
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    x1, y1, x2, y2 = placed.box
    left, top = placed.corner
    assert (left + columns[0], left + columns[-1]) == (x1, x2)
    assert (top + rows[0], top + rows[-1]) == (y1, y2)


def test_a_plain_object_has_its_colour_on_the_picture() -> None:
    picture_by_colour: dict[str, list[float]] = {name: [] for name in COLOURS}
    for scene in SCENES[:40]:
        pixels = render(scene).astype(float)
        for placed in scene.objects:
            if placed.pattern == "plain" and placed.class_name in ("ball", "star"):
                x1, y1, x2, y2 = placed.box
                seen = pixels[(y1 + y2) // 2, (x1 + x2) // 2]
                nearest = min(COLOURS, key=lambda c: np.abs(seen - COLOURS[c]).sum())
                picture_by_colour[placed.colour].append(nearest == placed.colour)
    assert sum(map(len, picture_by_colour.values())) > 5
    assert all(all(right) for right in picture_by_colour.values())


def test_patterns_show_a_second_tone() -> None:
    for scene in SCENES[:20]:
        pixels = render(scene)
        for placed in scene.objects:
            if placed.class_name != "ball":
                continue
            x1, y1, x2, y2 = placed.box
            quarter = (x2 - x1) // 4
            middle = pixels[y1 + quarter : y2 - quarter, x1 + quarter : x2 - quarter]
            pale = (middle.min(axis=2) > 200).mean()
            assert (pale > 0.1) == (placed.pattern != "plain")
