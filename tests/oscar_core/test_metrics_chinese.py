"""The text steps and files of the AIC-ICC protocol."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.metrics import chinese
from oscar_core.metrics.errors import CoverageError, MetricFileError, MetricInputError

HAN = st.text(alphabet="一个男人在骑马红色的车，。T3 ", max_size=20)


def test_full_stops_go_everywhere_and_words_are_joined_by_one_space() -> None:
    assert chinese.segment(" 一个男人。在骑马。\n") == "一个 男人 在 骑马"
    assert chinese.segment("。") == ""
    assert chinese.split_characters("红色 的车。") == "红 色 的 车"


@given(HAN)
def test_segmentation_loses_nothing(text: str) -> None:
    assert "".join(chinese.cut(text)) == text


@pytest.mark.parametrize(
    ("decoded", "sentence"),
    [
        ("一 个 男 人 在 骑 马", "一个男人在骑马"),
        ("穿 t 恤 的 two men ，  在 跑", "穿t恤的two men，在跑"),
        ("nba all star", "nba all star"),
        (" “ 你 好 ” （ 3 个 ） ", "“你好”（3个）"),
        ("", ""),
    ],
)
def test_gaps_beside_chinese_are_closed(decoded: str, sentence: str) -> None:
    assert chinese.close_gaps(decoded) == sentence


@given(HAN)
def test_closing_gaps_twice_changes_nothing(text: str) -> None:
    once = chinese.close_gaps(text)
    assert chinese.close_gaps(once) == once


def test_reference_ids_exceed_doubles_and_are_stable() -> None:
    stem = "140d8fd7466e721d6c24f3c2900104948861ac24"
    assert chinese.reference_id(stem) == 802817460312689640
    assert chinese.reference_id(chinese.image_stem(f"{stem}.jpg")) == 802817460312689640


def test_annotation_list_skips_empty_sentences_and_joins_repeated_images() -> None:
    rows = [
        {"image_id": "a.jpg", "caption": ["红色的车。", "", " 。 "]},
        {"image_id": "a.jpg", "caption": ["一辆车"]},
    ]
    assert chinese.read_annotation_list(rows) == {"a": ["红色的车。", "一辆车"]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "expected a JSON list"),
        ([], "the list is empty"),
        ([{"caption": ["x"]}], "row 0: 'image_id'"),
        ([{"image_id": "a", "caption": "x"}], "must be a list of sentences"),
        ([{"image_id": "a", "caption": [1]}], "must be a list of sentences"),
    ],
)
def test_annotation_rows_are_checked(rows: object, said: str) -> None:
    with pytest.raises(MetricFileError, match=said):
        chinese.read_annotation_list(rows)


def test_an_image_without_any_sentence_is_named() -> None:
    with pytest.raises(CoverageError, match="no sentence for image a"):
        chinese.read_annotation_list([{"image_id": "a.jpg", "caption": ["。"]}])


def test_submissions_are_written_as_they_are_read() -> None:
    rows = chinese.write_submission({"a.jpg": "红 色 的 车", "b": "两 只 狗"})
    assert chinese.read_submission(rows) == {"a": "红色的车", "b": "两只狗"}
    with pytest.raises(MetricInputError, match="image b"):
        chinese.write_submission({"b": "  "})
    with pytest.raises(MetricFileError, match="row 0: 'caption'"):
        chinese.read_submission([{"image_id": "a", "caption": ""}])
    with pytest.raises(CoverageError, match="second caption for image a"):
        chinese.read_submission(rows + rows)


def test_the_reference_file_is_segmented_and_keyed_by_hash() -> None:
    table = chinese.write_reference_file({"a": ["一个男人在骑马。", "。"]})
    assert table["images"] == [{"file_name": "a", "id": chinese.reference_id("a")}]
    assert table["annotations"] == [
        {"id": 1, "image_id": chinese.reference_id("a"), "caption": "一个 男人 在 骑马"}
    ]
    assert json.loads(json.dumps(table)) == table


def test_jieba_loads_silently_without_a_writable_temporary_folder(tmp_path: Path) -> None:
    script = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from oscar_core.metrics.chinese import segment\nprint(segment('一个男人在骑马'))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "utf8", "-c", script, str(tmp_path / "absent")],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.decode().strip() == "一个 男人 在 骑马"
    assert done.stderr == b""
