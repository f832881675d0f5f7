"""The card beside a model: what the hub reads, and where the model comes from."""

import json
from pathlib import Path
from typing import Any

import yaml

from flows.model_card import Learned, model_card, write_model_card

IDENTITY: dict[str, Any] = {
    "stage": "train",
    "version": 3,
    "config": {"task": "vqa", "settings": {"language": "zh"}, "vocabulary": "(outside file)"},
    "inputs": {"start": f"{'a' * 64}/model", "regions": f"{'b' * 64}/regions"},
    "outside": {"vocabulary": "c" * 64},
}
CODE = {"oscar-flow": "1.2.3", "commit": "d" * 40}


def learned(folder: Path, **changes: Any) -> Learned:
    losses = folder / "losses.jsonl"
    rows = [{"step": step, "total": 10 / step} for step in range(1, 51)]
    losses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen: dict[str, Any] = {
        "task": "vqa",
        "languages": ("zh",),
        "facts": {"examples": 7, "updates": 50},
        "losses": losses,
        "start": Path(f"runs/mine/pretrain-{'a' * 12}/model"),
    }
    return Learned(**(chosen | changes))


def parts(card: str) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    nothing, front, text = card.split("---\n", 2)
    assert nothing == ""
    return yaml.safe_load(front), text


def test_the_hub_finds_what_it_reads(tmp_path: Path) -> None:
    front, _ = parts(model_card(learned(tmp_path), IDENTITY, CODE))
    assert front["license"] == "other"
    assert front["language"] == ["zh"]
    assert front["pipeline_tag"] == "visual-question-answering"
    assert front["tags"] == ["oscar-flow", "vision-language", "vqa"]
    assert front["base_model"] == [f"pretrain-{'a' * 12}"]


def test_the_text_tells_data_code_parents_and_configuration(tmp_path: Path) -> None:
    _, text = parts(model_card(learned(tmp_path), IDENTITY, CODE))
    for told in ("b" * 64, "c" * 64, "a" * 64, "d" * 40, "1.2.3", "train, version 3"):
        assert told in text
    configuration = text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(configuration) == IDENTITY["config"]
    assert "runs/mine" not in text


def test_a_parent_from_a_registry_is_named_by_its_content(tmp_path: Path) -> None:
    identity = IDENTITY | {"inputs": {}, "outside": {"start": "e" * 64}}
    start = Path("models/current/vqa_train")
    front, text = parts(model_card(learned(tmp_path, start=start), identity, CODE))
    assert front["base_model"] == [f"vqa_train-{'e' * 12}"]
    assert "e" * 64 in text
    assert "models/current" not in text


def test_few_losses_of_many_are_shown_and_the_last(tmp_path: Path) -> None:
    _, text = parts(model_card(learned(tmp_path), IDENTITY, CODE))
    table = text.split("## Losses")[1].split("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 6
    assert rows[-1] == "| 50 | 0.2 |"


def test_a_stage_called_by_itself_has_a_card_without_lineage(tmp_path: Path) -> None:
    model = tmp_path / "step/model"
    model.mkdir(parents=True)
    write_model_card(model, learned(tmp_path, start=None))
    front, text = parts((model / "README.md").read_text())
    assert "base_model" not in front
    assert "## Configuration" not in text


def test_the_same_work_has_the_same_card(tmp_path: Path) -> None:
    (tmp_path / "identity.json").write_text(json.dumps(IDENTITY))
    model = tmp_path / "model"
    model.mkdir()
    cards = []
    for _ in range(2):
        write_model_card(model, learned(tmp_path))
        cards.append((model / "README.md").read_bytes())
    assert cards[0] == cards[1]


def test_a_table_keeps_its_columns(tmp_path: Path) -> None:
    _, text = parts(model_card(learned(tmp_path, facts={"a|b": "c\nd"}), IDENTITY, CODE))
    assert "| a\\|b | c d |" in text
