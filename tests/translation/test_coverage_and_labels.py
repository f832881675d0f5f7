import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translation.coverage import Coverage
from translation.dictionary import open_dictionary
from translation.errors import LabelFileError, TranslationError
from translation.labels import read_labels

LABELS = st.lists(st.sampled_from(["car", "red car", "zzz", "yyy", "sidewalk", "shiny"]))


def coverage_of(labels: list[str]) -> Coverage:
    coverage = Coverage()
    coverage.add(open_dictionary().translate(labels, "object"), "object")
    return coverage


@given(labels=LABELS)
def test_every_label_is_counted_once_as_covered_or_missing(labels: list[str]) -> None:
    report = coverage_of(labels).as_json()
    missing = Counter(label for label in labels if label in ("zzz", "yyy"))
    assert report["labels"] == len(labels)
    assert report["covered"] == len(labels) - missing.total()
    assert sum(report["by_source"].values()) == len(labels)  # type: ignore[attr-defined]
    listed = {each["english"]: each["count"] for each in report["missing"]}  # type: ignore[attr-defined]
    assert listed == missing
    json.dumps(report)


def test_missing_words_come_by_frequency_then_by_name() -> None:
    report = coverage_of(["b", "c", "a", "c"]).as_json()
    assert report["missing"] == [
        {"english": "c", "kind": "object", "count": 2},
        {"english": "a", "kind": "object", "count": 1},
        {"english": "b", "kind": "object", "count": 1},
    ]


def test_rows_tell_kind_and_source() -> None:
    coverage = coverage_of(["car", "cars", "car", "red car"])
    coverage.add(open_dictionary().translate(["red"], "attribute"), "attribute")
    assert coverage.as_json()["rows"] == [
        {
            "kind": "object",
            "source": "composed",
            "num_words": 1,
            "num_uses": 1,
            "examples": ["red car"],
        },
        {
            "kind": "object",
            "source": "lexicon",
            "num_words": 2,
            "num_uses": 3,
            "examples": ["car", "cars"],
        },
        {
            "kind": "attribute",
            "source": "lexicon",
            "num_words": 1,
            "num_uses": 1,
            "examples": ["red"],
        },
    ]


def test_no_labels_at_all_are_fully_covered() -> None:
    assert coverage_of([]).as_json()["share"] == 1.0


def test_bytes_that_are_no_text_are_refused_with_their_line() -> None:
    with pytest.raises(LabelFileError, match=r"names.txt: line 2: byte 5 "):
        read_labels(b"car\nb\xff", "names.txt")
    with pytest.raises(TranslationError, match="NUL"):
        read_labels(b"car\0", "names.txt")


def test_a_byte_order_mark_and_old_line_ends_do_not_count() -> None:
    assert read_labels(b"\xef\xbb\xbfcar\rdog\r\ncat", "-") == ["car", "dog", "cat"]
