"""The order of the last two numbers of a region: told by shards and models, never mixed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oscar_core.errors import PackingError, WeightsError
from oscar_core.model_folder import SETTINGS, read_model
from oscar_core.regions import check_geometry, geometry_of, region_inputs
from oscar_core.run import predict_task, train_task
from oscar_core.task import load_task
from storage.library import Library
from storage.records import HEIGHT_FIRST, INCLUDED, WIDTH_FIRST, Annotations
from tests.builders_library import TINY, make_library, make_regions, tiny_training


def with_numbers(library: Library, order: str) -> Library:
    """The same regions with their box numbers stored behind the features, as corpora have them."""
    regions = {
        image_id: replace(each, features=region_inputs(each, order).astype(np.float16))
        for image_id, each in library.regions.items()
    }
    return replace(library, regions=regions, geometry=INCLUDED)


def trained(folder: Path, library: Library, **changes: object) -> Path:
    train_task(
        task="vqa",
        settings=load_task("vqa").config(language="zh", loss="cross_entropy", min_questions=1),
        encoder=TINY,
        training=tiny_training(steps=1, batch_size=4),
        library=library,
        vocabulary=None,
        folder=folder / "model",
        losses=folder / "losses.jsonl",
        on_step=lambda report: None,
        **({"start": None} | changes),  # type: ignore[arg-type]  # options of several types
    )
    return folder / "model"


def predicted(model: Path, library: Library) -> int:
    done = predict_task(
        model=model, library=library, split="test", on_batch=lambda done, total: None
    )
    return len(done)


def test_the_two_orders_differ_in_the_last_two_numbers_alone() -> None:
    regions = make_regions("a/1", [("红", "球")])
    wide, high = region_inputs(regions, WIDTH_FIRST), region_inputs(regions, HEIGHT_FIRST)
    assert np.array_equal(wide[:, :-2], high[:, :-2])
    assert wide[0, -2:].tolist() == pytest.approx([15 / 60, 20 / 40])
    assert high[0, -2:].tolist() == pytest.approx([20 / 40, 15 / 60])


@pytest.mark.parametrize("order", [WIDTH_FIRST, HEIGHT_FIRST])
def test_stored_numbers_tell_their_order(order: str) -> None:
    library = make_library()
    assert geometry_of(with_numbers(library, order)) == order
    assert geometry_of(replace(library, geometry=order)) == order


def test_square_boxes_in_square_photos_tell_no_order() -> None:
    square = replace(
        make_regions("a/1", [("红", "球")]),
        height=60,
        boxes=np.array([[0, 5, 20, 25]], dtype=np.float32),
    )
    library = Library(regions={"a/1": square}, tags={}, annotations=Annotations())
    stored = with_numbers(library, HEIGHT_FIRST)
    assert geometry_of(stored) is None
    check_geometry(stored, WIDTH_FIRST, "some model")


def test_a_model_reads_regions_of_its_own_order_alone(tmp_path: Path) -> None:
    library = make_library()
    model = trained(tmp_path, replace(library, geometry=HEIGHT_FIRST))
    assert read_model(model).geometry == HEIGHT_FIRST
    assert predicted(model, replace(library, geometry=HEIGHT_FIRST))
    with pytest.raises(
        PackingError, match=rf"^{model}: takes regions that end height_first, these end width_fi"
    ):
        predicted(model, library)


def test_a_training_goes_on_with_regions_of_the_same_order_alone(tmp_path: Path) -> None:
    library = make_library()
    start = trained(tmp_path / "first", library)
    other = replace(library, geometry=HEIGHT_FIRST)
    with pytest.raises(PackingError, match=f"^{start}: takes regions that end width_first"):
        trained(tmp_path / "second", other, start=start)
    with pytest.raises(PackingError, match="this training"):
        trained(tmp_path / "third", library, geometry=HEIGHT_FIRST)


def test_a_model_keeps_its_order_where_the_regions_tell_none(tmp_path: Path) -> None:
    library = make_library()
    start = trained(tmp_path / "first", with_numbers(library, HEIGHT_FIRST))
    square = {
        image_id: replace(
            each,
            boxes=np.tile(np.float32([0, 0, each.width, each.height]), (len(each.boxes), 1)),
        )
        for image_id, each in library.regions.items()
    }
    mute = with_numbers(replace(library, regions=square), WIDTH_FIRST)
    assert geometry_of(mute) is None
    second = trained(tmp_path / "second", mute, start=start)
    assert read_model(second).geometry == HEIGHT_FIRST


def test_a_model_that_does_not_tell_its_order_reads_any(tmp_path: Path) -> None:
    library = make_library()
    model = trained(tmp_path, library)
    settings = model / SETTINGS
    told = settings.read_text()
    settings.write_text(told.replace('"geometry": "width_first"', '"geometry": null'))
    assert read_model(model).geometry is None
    assert predicted(model, replace(library, geometry=HEIGHT_FIRST))
    settings.write_text(told.replace('"width_first"', '"sideways"'))
    with pytest.raises(WeightsError, match="sideways"):
        read_model(model)
