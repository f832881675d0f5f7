"""What the sections are made of, one by one."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.truth import TrueImage, TrueObject
from flows.report.album import Album, spread
from flows.report.asked import question_kinds
from flows.report.figures import loss_figure
from flows.report.finished import FinishedStep, finished_steps
from flows.report.gallery import marked
from flows.report.losses import MAX_POINTS, curve_title, read_loss_charts, thin
from flows.report.measures import measures, metric_prefix, metric_rows, read_metrics, verdict
from flows.report.metrics_file import VERSIONS_KEY, write_metrics
from flows.report.metrics_file import read_metrics as read_file
from flows.report.records import Curve, LossChart
from flows.report.retrieved import retrieval
from flows.report.timing import (
    PAUSE_SECONDS,
    Axis,
    Span,
    in_plan_order,
    read_timeline,
    step_title,
)
from storage.artifacts import atomic_write_json
from storage.records import Annotations, QuestionAnnotation
from tests.builders_report import MadeRun, copied, task_scores, write_rows

NUMBERS = st.floats(0, 1, allow_nan=False)


def test_metrics_are_flat_and_named_by_task(made: MadeRun, tmp_path: Path) -> None:
    metrics, versions = read_metrics(finished_steps(made.steps), {})
    path = tmp_path / "metrics.json"
    write_metrics(path, metrics, versions)
    content = json.loads(path.read_text())
    told = content.pop(VERSIONS_KEY)
    assert {"segmenter", "scorer", "java", "torch", "transformers", "oscar-flow"} <= set(told)
    assert all(isinstance(value, float) for value in content.values())
    assert content["detector.ap50"] == 0.934
    assert content["captioning.zh.cider_features_shuffled"] == 0.94
    assert content["retrieval.t2i.r1_shuffled"] == 0.01
    assert content["vqa.majority"] == task_scores()["vqa"]["majority"]
    assert read_file(path) == metrics


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.5", None])
def test_metrics_json_holds_numbers_only(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        write_metrics(tmp_path / "metrics.json", {"vqa.accuracy": value}, {})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("step", "prefix"),
    [
        ("score_detector", "detector"),
        ("captioning_score", "captioning.zh"),
        ("captioning_en_score", "captioning.en"),
        ("retrieval_score", "retrieval"),
        ("vqa_score", "vqa"),
    ],
)
def test_a_scoring_step_names_its_metrics(step: str, prefix: str) -> None:
    assert metric_prefix(step, {}) == prefix


def test_the_language_of_captions_is_that_of_the_run() -> None:
    assert metric_prefix("captioning_score", {"captioning_score": "en"}) == "captioning.en"


def test_a_score_below_its_control_is_said_to_be() -> None:
    metrics = {"vqa.accuracy": 0.30, "vqa.accuracy_features_shuffled": 0.32, "vqa.majority": 0.2}
    (measure,) = measures(metrics, {}, {})
    assert not measure.is_above
    assert measure.verdict == "not above its best control (other photo, right tags)"
    assert [bar.value for bar in measure.bars] == [0.30, 0.32, 0.2]


def test_a_difference_that_does_not_show_is_none() -> None:
    assert verdict(0.353, [("chance", 0.351)], 26) == ("not above its best control (chance)", False)


def test_a_small_sample_allows_for_noise() -> None:
    assert verdict(0.6, [("chance", 0.5)], 20)[1] is False
    assert verdict(0.6, [("chance", 0.5)], 2000)[1] is True


@given(value=NUMBERS, best=NUMBERS, size=st.integers(0, 5000))
def test_nothing_at_or_below_its_control_is_above(value: float, best: float, size: int) -> None:
    if verdict(value, [("control", best)], size)[1]:
        assert value > best


def test_controls_stand_on_the_line_of_their_metric() -> None:
    rows = metric_rows({"vqa.accuracy": 0.7, "vqa.accuracy_shuffled": 0.2, "vqa.majority": 0.1})
    assert [(row.key, row.shuffled, row.majority) for row in rows] == [("vqa.accuracy", 0.2, 0.1)]


@given(num=st.integers(1, 900))
def test_thinned_curves_keep_end_and_mean_range(num: int) -> None:
    values = tuple(float(at % 7) for at in range(num))
    curve = thin(Curve(name="total", steps=tuple(range(1, num + 1)), values=values))
    assert len(curve.steps) == min(num, MAX_POINTS)
    assert curve.steps[-1] == num
    assert min(values) <= min(curve.values) <= max(curve.values) <= max(values)


def test_a_step_told_twice_after_resuming_counts_once(tmp_path: Path) -> None:
    rows = [{"step": at, "total": 9.0 - at} for at in (1, 2, 3, 2, 3, 4)]
    write_rows(tmp_path / "losses.jsonl", rows)
    with (tmp_path / "losses.jsonl").open("a") as stream:
        stream.write('{"step": 5, "tot')  # cut by a kill
    (chart,) = read_loss_charts({"pretrain": FinishedStep("pretrain", tmp_path)})
    assert chart.curves[0].steps == (1, 2, 3, 4)
    assert chart.curves[0].values == (8.0, 7.0, 6.0, 5.0)


@given(
    values=st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=40),
    name=st.text(max_size=20),
)
def test_any_losses_can_be_drawn(values: list[float], name: str) -> None:
    curve = Curve(name=name, steps=tuple(range(len(values))), values=tuple(values))
    figure = str(loss_figure(LossChart(step="pretrain", title=name, curves=(curve,))))
    assert figure.count("<polyline") == 1
    assert "nan" not in figure.split("points")[1]


def test_a_pause_between_two_starts_is_left_out_of_the_axis() -> None:
    day = 86_400.0
    axis = Axis([Span(begin=0, end=60), Span(begin=day, end=day + 60)])
    assert axis.length == 120
    assert axis.breaks == (0.5,)
    assert axis.place(day + 30) == 0.75
    assert Axis([Span(begin=0, end=60), Span(begin=60 + PAUSE_SECONDS, end=200)]).breaks == ()


def test_bars_lie_where_the_clock_says(made: MadeRun) -> None:
    timeline = read_timeline(finished_steps(made.steps))
    assert timeline.is_clocked
    assert {row.step for row in timeline.stages} == set(made.steps)
    begins = {row.step: row.begins for row in timeline.stages}
    assert begins["render_scenes"] == 0.0
    assert begins["list_images"] < begins["detect"] < begins["pretrain"] < begins["vqa_score"]
    assert max(row.ends for row in timeline.stages) == 1.0
    assert timeline.wall_seconds == pytest.approx(made.clock, abs=len(made.steps))


def test_a_state_of_another_attempt_does_not_place_a_bar(made: MadeRun, tmp_path: Path) -> None:
    made = copied(made, tmp_path / "demo")
    path = made.folder / "state" / "detect.json"
    atomic_write_json(path, {**json.loads(path.read_text()), "fingerprint": "0" * 64})
    timeline = read_timeline(finished_steps(made.steps))
    assert not timeline.is_clocked
    detect = next(row for row in timeline.stages if row.step == "detect")
    assert detect.begins is None
    assert detect.seconds == 64


def test_the_log_tells_when_a_step_began_that_was_run_again_with_other_settings(
    made: MadeRun, tmp_path: Path
) -> None:
    made = copied(made, tmp_path / "demo")
    state = made.folder / "state" / "detect.json"
    atomic_write_json(state, {**json.loads(state.read_text()), "fingerprint": "0" * 64})
    log = made.folder / "logs" / f"{made.steps['detect'].name}.jsonl"
    log.parent.mkdir()
    write_rows(log, [{"time": "2026-11-26T02:00:30Z", "message": "attempt 1"}])
    timeline = read_timeline(finished_steps(made.steps))
    assert timeline.is_clocked
    begins = {row.step: row.begins for row in timeline.stages}
    assert begins["detect"] == pytest.approx(30 / timeline.wall_seconds)


@given(order=st.permutations(["detect", "vqa_score", "pretrain", "vqa_train", "captioning_score"]))
def test_steps_come_in_the_order_of_a_plan(order: list[str]) -> None:
    assert in_plan_order(order) == [
        "detect",
        "pretrain",
        "captioning_score",
        "vqa_train",
        "vqa_score",
    ]


def test_steps_have_titles() -> None:
    assert step_title("vqa_train") == "Questions: train"
    assert step_title("captioning_en_score") == "Captioning (en): score"
    assert step_title("something_else") == "Something else"


@given(num=st.integers(0, 60), wanted=st.integers(1, 20))
def test_examples_lie_at_even_distances(num: int, wanted: int) -> None:
    chosen = spread(range(num), wanted)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(num, wanted)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_true_and_false_colours_are_told_apart() -> None:
    shown = TrueObject(
        class_name="car", colour="red", pattern="plain", size="small", box=(0, 0, 1, 1)
    )
    truth = TrueImage(image_id="a", split="test", shows_held_out=False, objects=(shown,))
    parts = marked("图里有一辆红色的车和一个 蓝色的球", truth)
    assert [(part.text, part.verdict) for part in parts] == [
        ("图里有一辆", ""),
        ("红色的车", "true"),
        ("和一个", ""),
        ("蓝色的球", "false"),
    ]


def test_retrieval_ranks_as_the_metric_does(tmp_path: Path) -> None:
    folder = tmp_path / "predictions"
    folder.mkdir()
    atomic_write_json(folder / "candidates.json", ["a", "b", "c"])
    rows = [
        {"caption_id": "1", "image_id": "a", "text": "first", "scores": [0.1, 0.9, 0.5]},
        {"caption_id": "2", "image_id": "b", "text": "second", "scores": [0.0, 0.8, 0.1]},
    ]
    write_rows(folder / "right.jsonl", rows)
    found = retrieval(FinishedStep("retrieval_predict", tmp_path), Album([]), 5)
    assert found is not None
    assert [query.rank for query in found.by_text] == [3, 1]
    assert [each.is_right for each in found.by_text[0].found] == [False, False, True]
    assert [query.rank for query in found.by_picture] == [1, 2, 3]
    assert [each.text for each in found.by_picture[1].found] == ["first", "second"]


def test_kinds_of_question_stand_beside_their_own_commonest_answer(tmp_path: Path) -> None:
    known = [_question(f"t{at}", "train", "red" if at < 3 else "blue") for at in range(4)]
    known += [_question(f"q{at}", "test", "red" if at < 2 else "blue") for at in range(4)]
    given_answers = ["red", "blue", "blue", "blue"]
    rows = [
        {
            "question_id": f"q{at}",
            "image_id": "i",
            "question": "what colour",
            "answer": answer,
            "question_type": "colour",
        }
        for at, answer in enumerate(given_answers)
    ]
    (tmp_path / "predictions").mkdir()
    write_rows(tmp_path / "predictions" / "right.jsonl", rows)
    step = FinishedStep("vqa_predict", tmp_path)
    (kind,) = question_kinds(step, Annotations(questions=tuple(known)), Album([]), 2)
    assert kind.accuracy == 0.75
    assert [(bar.role, bar.value) for bar in kind.bars] == [("right", 0.75), ("majority", 0.5)]
    assert kind.bars[1].label == "always red"
    assert not kind.is_above, "four questions prove nothing"


def _question(key: str, split: str, answer: str) -> QuestionAnnotation:
    return QuestionAnnotation(
        image_id="i",
        question_id=key,
        question="what colour",
        answers=(answer,) * 10,
        language="zh",
        split=split,
        source="s",
        question_type="colour",
    )


def test_the_right_photo_stands_last_where_it_was_missed(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    ids = list("abcdefgh")
    atomic_write_json(tmp_path / "predictions" / "candidates.json", ids)
    row = {"caption_id": "1", "image_id": "a", "text": "t", "scores": list(range(8))}
    write_rows(tmp_path / "predictions" / "right.jsonl", [row])
    found = retrieval(FinishedStep("retrieval_predict", tmp_path), Album([]), 5)
    assert found is not None
    (query,) = found.by_text
    assert [each.rank for each in query.found] == [1, 2, 3, 4, 5, 8]
    assert query.found[-1].is_right
    assert query.found[-1].picture.image_id == "a"


def test_phases_begin_where_the_file_says(tmp_path: Path) -> None:
    names = ("first", "first", "second", "first", "second", "second")
    rows = [
        {"step": step, "phase": name, "total": 1.0}
        for step, name in zip((1, 2, 3, 2, 3, 4), names, strict=True)
    ]
    write_rows(tmp_path / "losses.jsonl", rows)
    (chart,) = read_loss_charts({"pretrain": FinishedStep("pretrain", tmp_path)})
    assert [(mark.name, mark.step) for mark in chart.phases] == [("first", 1), ("second", 3)]
    figure = str(loss_figure(chart))
    assert figure.count('class="phase"') == 1
    assert figure.count('class="phase-name"') == 2


def test_answers_are_judged_by_what_each_person_said(tmp_path: Path) -> None:
    people = ("red",) * 2 + ("blue",) * 8
    alone = replace(_question("q1", "test", "red"), answers=("red",))
    known = (replace(_question("q0", "test", "red"), answers=people), alone)
    rows = [
        {"question_id": key, "answer": "red", "answers": ["blue", "red"], "question_type": "colour"}
        for key in ("q0", "q1", "unknown")
    ]
    (tmp_path / "predictions").mkdir()
    write_rows(tmp_path / "predictions" / "right.jsonl", rows)
    step = FinishedStep("vqa_predict", tmp_path)
    (kind,) = question_kinds(step, Annotations(questions=known), Album([]), 5)
    assert [each.expected for each in kind.examples] == ["blue", "red"]
    assert [each.accuracy for each in kind.examples] == pytest.approx([0.6, 1.0])


def test_a_question_is_judged_in_the_language_in_which_it_was_asked(tmp_path: Path) -> None:
    asked = _question("q0", "test", "red")
    trained = _question("t0", "train", "blue")
    chinese = [
        replace(each, question="什么颜色", answers=("红色",) * 10, language="other")
        for each in (asked, trained)
    ]
    row = {"question_id": "q0", "question": asked.question, "answer": "red"}
    (tmp_path / "predictions").mkdir()
    write_rows(tmp_path / "predictions" / "right.jsonl", [row | {"question_type": "colour"}])
    step = FinishedStep("vqa_predict", tmp_path)
    known = Annotations(questions=(asked, trained, *chinese))
    (kind,) = question_kinds(step, known, Album([]), 5)
    assert kind.accuracy == 1.0
    assert kind.bars[1].label == "always blue"


def test_both_objectives_of_pretraining_are_named(tmp_path: Path) -> None:
    row = {"step": 1, "total": 3.0, "words": 2.0, "contrast": 1.0, "contrast_accuracy": 0.5}
    write_rows(tmp_path / "losses.jsonl", [row])
    (chart,) = read_loss_charts({"pretrain": FinishedStep("pretrain", tmp_path)})
    assert [curve_title(curve.name) for curve in chart.curves] == [
        "total",
        "masked words",
        "text and photo match",
        "matches told right",
    ]
