import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.detectron2_difference import main
from benchmarks.reference.detectron2 import ratio_by_ratio
from detector.config import PRESETS
from detector.published.checkpoint_names import to_published
from detector.published.detectron2_names import to_detectron2
from tests.builders_detector import photo, tiny_model
from tests.detectron2_tree import need_detectron2


def test_maps_of_detectron2_come_into_our_order() -> None:
    model = tiny_model()
    published = to_published(model.state_dict(), model.cell_anchors)
    foreign = to_detectron2(published, num_ratios=3)
    name = "proposal_generator.rpn_head.anchor_deltas.weight"
    found = ratio_by_ratio(foreign[name], model.config, 4)
    assert torch.equal(found, model.rpn_head.deltas.weight)


def test_without_its_source_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nothing"
    assert main(["--detectron2", str(missing), "photo.jpg"]) == 2
    assert f"{missing}: no such folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # detectron2's own, on current torch and numpy
def test_both_see_the_same_in_a_small_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_detectron2()
    small = {"stem_width": 4, "res2_width": 8, "width_per_group": 4, "min_size": 96}
    small |= {"post_nms_top_n": 20, "num_classes": 12, "num_attributes": 20}
    monkeypatch.setitem(PRESETS, "r50c4", replace(PRESETS["r50c4"], **small))
    Image.fromarray(photo(96, 128, seed=3)).save(tmp_path / "photo.png")
    told = tmp_path / "told.json"
    asked = ["--preset", "r50c4", "--engines", "textbook", "--json", str(told)]
    threads = torch.get_num_threads()
    assert main([str(tmp_path / "photo.png"), *asked]) == 0
    torch.set_num_threads(threads)
    rows = {row["stage"]: row for row in json.loads(told.read_text())["photo.png"]["textbook"]}
    assert rows["proposals [px]"]["note"].startswith("20 of 20 found")
    assert rows["class logits"]["scale"] > 1
    assert rows["end to end, refined: boxes [px]"]["scale"] > 20
    for name, row in rows.items():
        assert row["largest"] < 1e-3 * max(1.0, row["scale"]), name
    assert np.isfinite([row["largest"] for row in rows.values()]).all()
