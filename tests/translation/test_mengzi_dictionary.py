import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.locations import data_dir
from translation.errors import DictionaryError
from translation.normalise import normalise
from translation.published.mengzi_dictionary import read_mengzi, to_mengzi

KEYS = st.text(alphabet="abc -'A", min_size=1, max_size=8)
WORDS = st.text(alphabet="汽车树人红", min_size=1, max_size=4)


def test_the_published_file_is_read_whole() -> None:
    words = read_mengzi(data_dir("translation", "chinese_label.json"))
    assert len(words) == 1594
    assert words["airplane"] == "飞机"


def test_a_word_with_inner_spaces_stays_one_word() -> None:
    words = read_mengzi(data_dir("translation", "chinese_label.json"))
    assert words["pepperoni"] == "意大利辣味香肠"


def test_the_damaged_dictionary_is_refused_with_every_bad_entry_in_one_line() -> None:
    with pytest.raises(DictionaryError) as caught:
        read_mengzi(data_dir("hostile", "annotations", "label_dictionary_bad.json"))
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "4 bad entries",
        "'cat' occurs twice",
        "'dog' is empty",
        "'bird' is null",
        "'tree' is a list",
    ):
        assert part in said


def test_outer_spaces_are_stripped_and_keys_have_no_case(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"Horse": " 马 "}', encoding="utf-8")
    assert read_mengzi(path) == {"horse": "马"}


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_bytes(b"\xef\xbb\xbf" + '{"cat": "猫"}'.encode())
    assert read_mengzi(path) == {"cat": "猫"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"cat": "', "not JSON at byte 8"),
        ('{"car": "汽车"}'.encode("gbk"), "not UTF-8"),
        ('{"cat": "猫"}'.encode("utf-16"), "not UTF-8"),
        (b'["cat"]', "no JSON object"),
        (b'{"cat": 3}', "'cat' is a number"),
        (b'{"cat": true}', "'cat' is true or false"),
        (b'{"cat": {"zh": "x"}}', "'cat' is an object"),
        (b'{"cat": NaN}', "'cat' is a number"),
        (b'{" - ": "x"}', "a key without a letter"),
        (b'{"cat": "a\\u0000b"}', "control character"),
        (b'{"cat": "\\ud83d"}', "surrogate"),
        (b'{"t-shirt": "a", "T shirt": "b"}', "'T shirt' occurs twice (a, b)"),
        (b"[" * 100_000, "not a dictionary"),
    ],
)
def test_what_is_no_dictionary_is_refused_in_one_line(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "words.json"
    path.write_bytes(content)
    with pytest.raises(DictionaryError, match=r"words\.json") as caught:
        read_mengzi(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.json", "."])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DictionaryError, match="check the path"):
        read_mengzi(tmp_path / name)


@given(words=st.dictionaries(KEYS, WORDS))
def test_what_was_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, words: dict[str, str]
) -> None:
    distinct = {normalise(key): word for key, word in words.items() if normalise(key)}
    path = tmp_path_factory.mktemp("words") / "words.json"
    path.write_text(to_mengzi(distinct), encoding="utf-8")
    assert read_mengzi(path) == distinct
    assert json.loads(path.read_text(encoding="utf-8")) == distinct
