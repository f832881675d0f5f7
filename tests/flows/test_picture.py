import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flows.picture import Label, _free_place, draw_regions


def test_every_box_and_label_leaves_its_colour_on_the_photo() -> None:
    photo = np.full((240, 320, 3), 255, np.uint8)
    drawn = np.asarray(
        draw_regions(photo, [Label(box=(40, 60, 200, 180), text="red car 红色的汽车")])
    )
    blue = np.all(drawn == (0x25, 0x63, 0xEB), axis=2)
    assert drawn.shape == (600, 800, 3)
    assert blue[int(60 * 2.5), int(40 * 2.5) : int(200 * 2.5)].all()
    assert blue[:145].sum() > 500, "the label lies above its box"


@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 200), st.integers(5, 80), st.integers(5, 80)),
        max_size=12,
    )
)
def test_labels_never_cover_one_another(boxes: list[tuple[int, int, int, int]]) -> None:
    taken: list[tuple[float, float, float, float]] = []
    for x, y, width, height in boxes:
        place = _free_place((x, y, x + width, y + height), 90, 16, (380, 280), taken)
        if place is not None:
            left, top = place
            assert 0 <= left <= 290
            assert 0 <= top <= 264
            for a, b, c, d in taken:
                assert left + 90 <= a or left >= c or top + 16 <= b or top >= d
            taken.append((left, top, left + 90, top + 16))


def test_a_photo_of_one_pixel_can_be_drawn() -> None:
    assert draw_regions(np.zeros((1, 1, 3), np.uint8), []).size == (800, 800)
