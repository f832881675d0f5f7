"""Anchors and settings files: what others wrote down, read back."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.anchors import cell_anchors
from detector.constants import ANCHOR_STRIDE
from detector.errors import CheckpointError, DetectorConfigError
from detector.published.cell_anchors import shapes_of_anchors
from detector.published.settings_file import read_settings, settings_beside

SIZES = st.lists(st.integers(12, 4000).map(lambda n: n / 4), min_size=1, max_size=6, unique=True)
RATIOS = st.lists(
    st.sampled_from([0.25, 0.333, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0]),
    min_size=1,
    max_size=4,
    unique=True,
)

BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}\n" for n in range(1, 15)
)
"""Short to write, 2^15 values long."""


@settings(max_examples=20)
@given(sizes=SIZES, ratios=RATIOS)
def test_anchors_tell_sizes_and_ratios_that_make_them(
    sizes: list[float], ratios: list[float]
) -> None:
    cells = cell_anchors(sizes, ratios, ANCHOR_STRIDE)
    found = shapes_of_anchors(cells, "a file")
    made = cell_anchors(found.sizes, found.ratios, ANCHOR_STRIDE)
    assert float((made - cells).abs().max()) < 1e-3


def test_the_published_anchors_have_the_published_sizes() -> None:
    sizes, ratios = (32.0, 64.0, 128.0, 256.0, 512.0), (0.5, 1.0, 2.0)
    found = shapes_of_anchors(cell_anchors(sizes, ratios, ANCHOR_STRIDE), "a file")
    assert (found.sizes, found.ratios) == (sizes, ratios)


@pytest.mark.parametrize("cells", [torch.zeros(3, 4), torch.rand(5, 4) * 90, torch.zeros(0, 4)])
def test_boxes_that_are_no_anchors_are_refused(cells: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        shapes_of_anchors(cells, "weights.pth")


def test_a_settings_file_gives_full_names_and_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("MODEL:\n  RPN: {NMS_THRESH: 0.6, ANCHOR_SIZES: '(32, 64)'}\nDTYPE: float32\n")
    assert read_settings(path) == {
        "MODEL.RPN.NMS_THRESH": 0.6,
        "MODEL.RPN.ANCHOR_SIZES": (32, 64),
        "DTYPE": "float32",
    }
    assert settings_beside(tmp_path / "net.pth") == path
    assert settings_beside(tmp_path / "other.pth") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "cannot be read"),
        ("!!python/object/apply:os.system ['true']", "cannot be read"),
        ("x", "no settings"),
        (BOMB, "too many"),
        (f"{'{a: ' * 30}1{'}' * 30}", "too deep"),
        ("a: " + "x" * (1 << 20), "too large"),
    ],
)
def test_settings_files_that_are_none_are_refused(
    content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.yaml").write_text(content)
    with pytest.raises(DetectorConfigError, match=message):
        read_settings(tmp_path / "odd.yaml")
