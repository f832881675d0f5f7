"""A large JSON file is read member by member, with the same values and errors as a whole one."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import json_stream
from storage.errors import AnnotationError, MissingFileError
from storage.json_stream import elements, elements_of, members_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 3)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8"))
    return path


@given(
    value=st.dictionaries(st.text(max_size=4), VALUES, max_size=5),
    indent=st.sampled_from([None, 1]),
)
def test_members_are_those_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], indent: int | None
) -> None:
    path = written(
        tmp_path_factory.mktemp("x"), json.dumps(value, ensure_ascii=False, indent=indent)
    )
    assert dict(members_of(path, AnnotationError)) == value


@given(value=st.lists(VALUES, max_size=5))
def test_elements_are_those_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory, value: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("x")
    assert list(elements(written(folder, json.dumps(value)), AnnotationError)) == value
    whole = {"info": {"rows": [0]}, "rows": value, "more": 1}
    assert list(elements_of(written(folder, json.dumps(whole)), "rows", AnnotationError)) == value


@pytest.mark.parametrize("number", [0.5, -1.25e-07, 1e300, 10, -3])
def test_a_number_that_a_chunk_cuts_stays_whole(tmp_path: Path, number: float) -> None:
    for blanks in range(4):
        path = written(tmp_path, f'{{{" " * blanks}"a": {number}}}')
        assert list(members_of(path, AnnotationError)) == [("a", number)]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert list(members_of(written(tmp_path, '\ufeff{"a": 12}'), AnnotationError)) == [("a", 12)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("[1]", "a JSON object was expected"),
        ('{"a": 1', "a comma or } was expected"),
        ('{"a": 1,', "a key in quotes was expected"),
        ('{"a" 1}', "a colon was expected"),
        ('{"a": tru}', "Expecting value"),
        ('{"a": "x', "Unterminated string"),
        ('{"a": 1} 2', "something follows the object"),
        ('{"a": 1 "b": 2}', "a comma or } was expected"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "1" * 5_000 + "}", "thousands of digits"),
    ],
)
def test_a_broken_file_ends_in_one_line(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 1 << 20)
    with pytest.raises(AnnotationError, match=message) as caught:
        list(members_of(written(tmp_path, text), AnnotationError))
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1x, ', "a comma or } was expected"),
        ('{"a": "x"y, ', "a comma or } was expected"),
        ('{"a": 1.x, ', "a comma or } was expected"),
        ('{"a": [1, x], ', "Expecting value"),
        ('{"a": [1 2], ', "delimiter"),
        ('{"a": tru, ', "Expecting value"),
    ],
)
def test_a_bad_sign_is_told_before_the_rest_is_read(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_BYTES", 64)
    path = tmp_path / "x.json"
    path.write_bytes(text.encode() + b" " * 500 + b"\xff")  # no UTF-8, if it comes to that
    with pytest.raises(AnnotationError, match=message):
        list(members_of(path, AnnotationError))


def test_what_is_not_utf8_missing_or_no_list_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": "\xc4\xe3"}')
    with pytest.raises(AnnotationError, match="not UTF-8"):
        list(members_of(path, AnnotationError))
    with pytest.raises(MissingFileError, match="no such file"):
        list(members_of(tmp_path / "none.json", AnnotationError))
    with pytest.raises(MissingFileError, match="check the path"):
        list(elements(tmp_path, AnnotationError))
    with pytest.raises(AnnotationError, match="no list 'rows'; found 'a', 'rows'"):
        list(elements_of(written(tmp_path, '{"a": 1, "rows": {}}'), "rows", AnnotationError))
