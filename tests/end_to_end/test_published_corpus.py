"""A published pretraining corpus, from one command to a pretrained model and its report."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.command_line import oscar_child
from tests.locations import oracle_dir

CONFIG = """
import_corpus: {{corpus: {folder}, features: {folder}, name: coco_flickr30k_gqa.yaml, language: en}}
translate_tags: {{language: en}}
encoder: {{hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 32, max_positions: 64}}
pretrain:
  settings: {{languages: [en], view: {{max_regions: 8}}}}
  training: {{steps: 4, batch_size: 4, checkpoint_every: 2}}
"""


@pytest.mark.slow
def test_a_published_corpus_is_learned_from_by_one_command(tmp_path: Path) -> None:
    folder = oracle_dir("oscar", "oscar_tiny").resolve()
    if not folder.is_dir():
        pytest.skip("oscar_tiny is not here; set OSCAR_ORACLE_DIR to the recorded outputs")
    config, out = tmp_path / "own.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(folder=folder))
    arguments = ["run", str(config), "--out", str(out)]
    looked = oscar_child([*arguments, "--dry-run"])
    assert looked.status == 0, looked.err
    assert not out.exists()
    said = oscar_child([*arguments, "--no-prefect"])
    assert said.status == 0, said.err
    (model,) = out.glob("pretrain-*/model/model.safetensors")
    assert load_file(model)["encoder.region_projection.weight"].shape == (16, 22)
    rows = (model.parents[1] / "losses.jsonl").read_text().splitlines()
    assert len(rows) == 4
    assert {"words", "contrast"} <= set(json.loads(rows[0]))
    assert "text and photo match" in (out / "report.html").read_text(encoding="utf-8")
