import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.locations import data_dir
from translation.grammar import GENERAL_MEASURE, own_grammar
from translation.lexicon import own_lexicon
from translation.measures import SOME, counted, measure_word


@pytest.mark.parametrize(
    ("noun", "measure"),
    [
        ("汽车", "辆"),
        ("警车", "辆"),
        ("火车", "列"),
        ("猫", "只"),
        ("马", "匹"),
        ("奶牛", "头"),
        ("鱼", "条"),
        ("雨伞", "把"),
        ("桌子", "张"),
        ("树", "棵"),
        ("眼镜", "副"),
        ("书", "本"),
        ("飞机", "架"),
        ("帆船", "艘"),
        ("路灯", "盏"),
        ("吧台凳", "个"),
        ("闻所未闻之物", GENERAL_MEASURE),
        ("", GENERAL_MEASURE),
    ],
)
def test_a_noun_has_the_measure_word_of_its_longest_known_ending(noun: str, measure: str) -> None:
    assert measure_word(noun) == measure


@pytest.mark.parametrize(
    ("noun", "number", "phrase"),
    [
        ("汽车", 1, "一辆汽车"),
        ("猫", 2, "两只猫"),
        ("苹果", 12, "12个苹果"),
        ("树", 0, "零棵树"),
        ("食物", 3, "一些食物"),
        ("一串香蕉", 1, "一串香蕉"),
        ("一串香蕉", 2, "两串香蕉"),
        ("", 1, ""),
    ],
)
def test_number_measure_word_and_noun(noun: str, number: int, phrase: str) -> None:
    assert counted(noun, number) == phrase


def test_attributes_stand_between_measure_word_and_noun() -> None:
    assert counted("汽车", attributes="红色的") == "一辆红色的汽车"


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        counted("汽车", -1)


@given(noun=st.text(alphabet="汽车猫树一水", max_size=4), number=st.integers(0, 200))
def test_a_count_ends_with_what_is_counted(noun: str, number: int) -> None:
    assert counted(noun, number).endswith(noun.removeprefix("一"))


def test_most_objects_of_the_lexicon_have_a_measure_word_of_their_own() -> None:
    nouns = {entry.chinese for entry in own_lexicon().objects.values()}
    special = [noun for noun in nouns if measure_word(noun) not in (GENERAL_MEASURE, SOME)]
    assert len(special) / len(nouns) > 0.55


def test_measure_words_can_be_written_with_the_published_vocabulary() -> None:
    text = data_dir("vocab", "bert-base-chinese-vocab.txt").read_text(encoding="utf-8")
    assert set(own_grammar().measures.values()) - set(text.split("\n")) == set()
