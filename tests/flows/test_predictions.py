"""Predictions survive the disk; captions are judged by the colours that are there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.truth import TrueImage, TrueObject, write_truth
from flows.errors import ConfigError
from flows.predictions import all_predictions, file_name, read_predictions, write_predictions
from flows.stages.score import colour_precisions
from flows.task_settings import typed_settings
from oscar_core.tasks.captioning.records import Prediction as Caption
from oscar_core.tasks.retrieval.records import Prediction as Ranking
from storage.errors import DamagedFileError


def caption(image_id: str, text: str) -> Caption:
    return Caption(image_id=image_id, caption=text, log_probability=-0.5)


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_captions_of_any_signs_survive(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("said") / "right.jsonl"
    said = [caption(f"photo/{number}", text) for number, text in enumerate(texts)]
    write_predictions(path, said)
    assert read_predictions(path, "captioning") == said


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    ranking = Ranking(caption_id="1", image_id="a", text="x", scores=(0.25, -1.5))
    write_predictions(tmp_path / "right.jsonl", [ranking])
    assert read_predictions(tmp_path / "right.jsonl", "retrieval") == [ranking]


def test_controls_that_were_not_asked_for_are_left_out(tmp_path: Path) -> None:
    for control in ("", "shuffled"):
        write_predictions(tmp_path / file_name(control), [caption("a", control)])
    found = all_predictions(tmp_path, "captioning", ("", "shuffled", "features_shuffled"))
    assert {control: said[0].caption for control, said in found.items()} == {
        "": "",
        "shuffled": "shuffled",
    }


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "right.jsonl"
    write_predictions(path, [caption("a", "text")])
    path.write_text(path.read_text()[:20])
    with pytest.raises(DamagedFileError, match=r"right\.jsonl: not predictions of captioning"):
        read_predictions(path, "captioning")


def test_colours_are_judged_by_what_the_photo_shows(tmp_path: Path) -> None:
    shown = TrueObject(
        class_name="ball", colour="red", pattern="plain", size="large", box=(0, 0, 9, 9)
    )
    image = TrueImage(image_id="a", split="test", shows_held_out=False, objects=(shown,))
    write_truth(tmp_path / "truth.json", [image])
    predictions = {"": [caption("a", "一个红色的球")], "shuffled": [caption("a", "一个蓝色的球")]}
    assert colour_precisions(predictions, tmp_path / "truth.json") == {
        "colour_precision": 1.0,
        "colour_precision_shuffled": 0.0,
    }


def test_settings_of_a_task_are_checked_where_they_arrive() -> None:
    assert typed_settings("vqa", {"max_text": 40}).max_text == 40
    with pytest.raises(ConfigError, match=r"settings\.max_tex: unknown key; did you mean"):
        typed_settings("vqa", {"max_tex": 40})
