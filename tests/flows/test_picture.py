from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.commands.detect import Seen
from flows.label_places import LabelPlaces, Place
from flows.picture import Label, _font, _label_size, _placed, draw_regions
from storage.records import DecodedImage, ImageTags
from tests.builders_storage import make_regions
from tests.builders_tables import inside

WIDTH, HEIGHT = 640, 480
BOXES = st.tuples(
    st.integers(0, 600), st.integers(0, 440), st.integers(0, 300), st.integers(0, 200)
).map(lambda box: (box[0], box[1], min(box[0] + box[2], 639), min(box[1] + box[3], 479)))


def overlap(first: tuple, second: tuple) -> bool:
    across = first[0] < second[2] and second[0] < first[2]
    return across and first[1] < second[3] and second[1] < first[3]


def on_outline(point: tuple, box: tuple) -> bool:
    x, y = point
    is_inside = box[0] <= x <= box[2] and box[1] <= y <= box[3]
    return is_inside and (x in (box[0], box[2]) or y in (box[1], box[3]))


@given(boxes=st.lists(st.tuples(BOXES, st.integers(20, 250)), max_size=40))
def test_labels_lie_on_the_picture_and_never_over_one_another(boxes: list) -> None:
    places = LabelPlaces(WIDTH, HEIGHT)
    found: list[tuple[tuple, Place]] = []
    for box, width in boxes:
        place = places.place(box, width, 25)
        if place is not None:
            found.append((box, place))
            left, top, right, bottom = place.area
            assert 0 <= left <= right <= WIDTH
            assert 0 <= top <= bottom <= HEIGHT
            assert (right - left, bottom - top) == (width, 25)
    for (_, first), (_, second) in combinations(found, 2):
        assert not overlap(first.area, second.area)


@given(boxes=st.lists(BOXES, min_size=1, max_size=60))
def test_a_label_that_stands_apart_has_a_line_from_it_to_its_box(boxes: list) -> None:
    places = LabelPlaces(WIDTH, HEIGHT)
    for box in boxes:
        place = places.place(box, 150, 25)
        if place is None:
            continue
        grown = (box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2)
        if place.leader is None:
            assert overlap(place.area, grown)
        else:
            x1, y1, x2, y2 = place.leader
            assert on_outline((x1, y1), place.area)
            assert on_outline((x2, y2), box)


def test_the_first_label_sits_on_top_of_its_box_and_the_next_one_makes_room() -> None:
    places = LabelPlaces(WIDTH, HEIGHT)
    box = (100, 100, 300, 200)
    assert places.place(box, 90, 20) == Place(area=(100, 80, 190, 100))
    assert places.place(box, 90, 20) == Place(area=(210, 80, 300, 100))
    assert places.place(box, 90, 20) == Place(area=(100, 200, 190, 220))


def test_a_label_wider_than_the_picture_has_no_place() -> None:
    assert LabelPlaces(100, 100).place((0, 0, 50, 50), 101, 10) is None


def test_every_label_is_drawn_or_listed_with_the_number_at_its_box() -> None:
    font = _font(18)
    labels = [Label(box=(200, 90, 210, 95), text=f"红色的汽车 red car {n}") for n in range(60)]
    drawn, listed = _placed(labels, 1.0, (400, 200), font)
    assert len(drawn) == 60
    assert listed
    texts = [each.text for each in drawn]
    assert [text for text in texts if text.isdigit()] == [str(n + 1) for n in range(len(listed))]
    told = {text for text in texts if not text.isdigit()}
    told |= {each.text.partition("  ")[2] for each in listed}
    assert told == {label.text for label in labels}
    for each in drawn:
        if each.place is not None:
            left, top, right, bottom = each.place.area
            assert right - left >= font.getlength(each.text)
            assert (right - left, bottom - top) == _label_size(each.text, font)


def test_a_list_is_written_below_the_photo() -> None:
    photo = np.full((80, 640, 3), 200, np.uint8)
    labels = [Label(box=(300, 20, 310, 30), text=f"红色的汽车 red car {n}") for n in range(40)]
    page = draw_regions(photo, labels)
    assert page.width == 1280
    assert page.height > 160
    assert (np.asarray(page)[160:] < 128).any()
    assert draw_regions(photo, labels[:3]).size == (1280, 160)


def test_every_box_and_label_leaves_its_colour_on_the_photo() -> None:
    photo = np.full((240, 320, 3), 255, np.uint8)
    drawn = np.asarray(
        draw_regions(photo, [Label(box=(40, 60, 200, 180), text="红色的汽车 red car")])
    )
    blue = np.all(drawn == (0x25, 0x63, 0xEB), axis=2)
    assert drawn.shape == (960, 1280, 3)
    assert blue[60 * 4, 40 * 4 : 200 * 4].all()
    assert blue[: 59 * 4].sum() > 1000, "the label lies above its box"


def test_the_font_knows_chinese_signs() -> None:
    font = _font(20)
    boxes = {font.getmask(sign).getbbox() for sign in "汽车红色的"}
    unknown = font.getmask("\U0010fffd").getbbox()
    assert unknown not in boxes
    assert len(boxes) > 1


def test_a_photo_of_one_pixel_can_be_drawn() -> None:
    assert draw_regions(np.zeros((1, 1, 3), np.uint8), []).size == (1280, 1280)


def test_a_label_tells_both_languages_and_the_confidence(tmp_path: Path) -> None:
    regions = inside(make_regions(num=3))
    regions = replace(
        regions,
        class_names=("car", "tree", "dog"),
        attribute_names=(("red",), (), ()),
        confidences=np.array([0.913, 0.5, 0.1], np.float32),
    )
    tags = ImageTags(
        image_id=regions.image_id,
        tags=("汽车", "", "dog"),
        attributes=(("红色",), (), ()),
        language="zh",
    )
    pixels = np.zeros((48, 64, 3), np.uint8)
    photo = DecodedImage(image_id=regions.image_id, pixels=pixels, content_hash="")
    seen = Seen(image=photo, regions=regions, tags=tags)
    assert [seen.label(row) for row in range(3)] == [
        "红色的汽车 red car 0.91",
        "tree 0.50",
        "dog 0.10",
    ]
    out = tmp_path / "x.png"
    assert seen.save(out, threshold=0.2, most=40) == f"drawn in {out}: 2 of 3 regions"
    assert seen.save(out, threshold=0.2, most=1) == f"drawn in {out}: 1 of 3 regions"
    with Image.open(out) as drawn:
        assert drawn.size == (1280, 960)
