from benchmarks.padding import EXTRA_CELLS, changes
from tests.builders_detector import photo, tiny_model


def test_a_photo_of_whole_cells_is_not_changed_by_padding_to_them() -> None:
    model = tiny_model()
    whole = {each.name: each.value for each in changes(model, [photo(64, 96)])}
    assert whole["padding.cells+0.padding"] == 0
    assert whole["padding.cells+0.agreeing"] == 1
    assert whole["padding.cells+0.cosine_least"] > 1 - 1e-6
    assert whole["padding.cells+1.padding"] == 1 - 64 * 96 / (80 * 112)
    assert whole["padding.cells+8.cosine_least"] < whole["padding.cells+0.cosine_least"]
    ways = {name.split(".")[1] for name in whole}
    assert ways == {f"cells+{more}" for more in EXTRA_CELLS} | {"noise"}


def test_an_uneven_photo_is_padded_by_less_than_a_cell() -> None:
    found = {each.name: each.value for each in changes(tiny_model(), [photo(64, 85)])}
    assert found["padding.cells+0.padding"] == 1 - 85 / 96
