"""Rules of the tokenizer that the recorded cases do not pin down, and vocabularies."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_core.errors import VocabularyError
from oscar_core.tokens import (
    SPECIAL_TOKENS,
    Tokenizer,
    build_vocabulary,
    read_vocabulary,
    words,
    write_vocabulary,
)
from tests.builders_core import make_tokenizer

TEXTS = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=5)


@pytest.mark.parametrize(
    "code", [0x4E00, 0x3400, 0x20000, 0x2A700, 0x2B740, 0x2B820, 0xF900, 0x2F800]
)
def test_every_block_of_ideographs_is_set_apart(code: int) -> None:
    assert len(words(f"ab{chr(code)}cd")) == 3


def test_kana_and_hangul_are_not_set_apart() -> None:
    assert words("あア한", lower_case=False) == ["あア한"]


@pytest.mark.parametrize("sign", list("$+<=>^`|~#@_"))
def test_ascii_signs_are_punctuation_even_outside_category_p(sign: str) -> None:
    assert words(f"a{sign}b") == ["a", sign, "b"]


def test_invisible_characters_vanish_and_wide_blanks_separate() -> None:
    assert words("a\u200bb\u0000c\ufffdd") == ["abcd"]
    assert words("a\u3000b\u00a0c\td") == ["a", "b", "c", "d"]
    assert words("a\u0378b") == ["ab"]  # not assigned


def test_accents_go_and_final_sigma_stays_as_python_lowers_it() -> None:
    assert words("Crème ΟΔΟΣ") == ["creme", "οδος"]
    assert words("Crème", lower_case=False) == ["Crème"]


def test_full_width_letters_are_not_narrowed() -> None:
    assert words("\uff21\uff11") == ["\uff41\uff11"]


def test_a_word_of_a_hundred_characters_is_cut_and_a_longer_one_unknown() -> None:
    tokenizer = make_tokenizer(("a", "##a"))
    assert tokenizer.tokenize("a" * 100) == ["a"] + ["##a"] * 99
    assert tokenizer.tokenize("a" * 101) == ["[UNK]"]


def test_an_unmatched_rest_makes_the_whole_word_unknown() -> None:
    assert make_tokenizer(("dog", "##s")).tokenize("dogs dogx") == ["dog", "##s", "[UNK]"]


def test_special_tokens_in_a_text_are_kept_whole() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.tokenize("red[MASK] car [SEP]") == ["red", "[MASK]", "car", "[SEP]"]
    assert "[MASK]" not in tokenizer.tokenize("[mask]")


def test_decoding_mends_english_spacing() -> None:
    tokenizer = make_tokenizer(("i", "'", "'m", "'ve", "'re", "do", "not", "n't", "'s", "!", "is"))
    said = ["i", "'m", "is", "n't", "i", "'ve", "'re", "do", "not", "'s", "'", "!"]
    text = tokenizer.decode(tokenizer.token_ids(said))
    assert text == "i'm isn't i've're don't's '!"


def test_ids_beyond_the_vocabulary_read_as_unknown() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.tokens([len(tokenizer), -1]) == ["[UNK]", "[UNK]"]


def test_remembered_ids_are_not_changed_by_the_caller() -> None:
    tokenizer = make_tokenizer()
    tokenizer.ids("a red car").clear()
    assert len(tokenizer.ids("a red car")) == 3


@given(TEXTS)
def test_a_built_vocabulary_knows_every_word_it_was_built_from(texts: list[str]) -> None:
    tokenizer = Tokenizer(build_vocabulary(texts))
    for text in texts:
        short = " ".join(word for word in words(text) if len(word) <= 100)
        assert "[UNK]" not in tokenizer.tokenize(short)


@given(TEXTS)
def test_a_built_vocabulary_begins_with_the_special_tokens_and_repeats_nothing(
    texts: list[str],
) -> None:
    vocabulary = build_vocabulary(texts)
    assert tuple(vocabulary[:5]) == SPECIAL_TOKENS
    assert len(set(vocabulary)) == len(vocabulary)


def test_a_built_vocabulary_keeps_ideographs_single_and_frequent_words_first() -> None:
    vocabulary = build_vocabulary(["红色的车 red car", "a red dog"])
    assert "红色" not in vocabulary
    assert {"红", "色", "的", "车", "red", "##d"} <= set(vocabulary)
    assert vocabulary.index("red") < vocabulary.index("car")


def test_a_limited_vocabulary_still_spells_rare_words() -> None:
    vocabulary = build_vocabulary(["red red car"], max_size=1)
    assert "car" not in vocabulary
    assert Tokenizer(vocabulary).tokenize("car") == ["c", "##a", "##r"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))))
def test_a_written_vocabulary_reads_back(tokens: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        write_vocabulary(path, [*SPECIAL_TOKENS, *tokens])
        assert read_vocabulary(path).vocabulary == (*SPECIAL_TOKENS, *tokens)


def test_line_separators_inside_a_token_do_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL_TOKENS, "a\u2028b", "c\x85"]), encoding="utf-8")
    assert read_vocabulary(path).vocabulary[5:] == ("a\u2028b", "c\x85")


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "[MASK]"), (b"\xff\xfe", "UTF-8"), (b"", "[PAD]")],
)
def test_a_broken_vocabulary_is_refused_in_one_line(
    tmp_path: Path, content: bytes, word: str
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=r"vocab\.txt") as caught:
        read_vocabulary(path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="No such file"):
        read_vocabulary(tmp_path / "vocab.txt")
