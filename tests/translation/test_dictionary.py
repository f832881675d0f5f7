import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translation.dictionary import Policy, TagDictionary, WordList, open_dictionary
from translation.errors import DictionaryError, UntranslatedError
from translation.lexicon import KINDS, Kind

LABELS = st.text(alphabet="abs -'", max_size=6)
WORDS = st.text(alphabet="汽车树人红", min_size=1, max_size=3)


def chinese(label: str, kind: Kind = "object", dictionary: TagDictionary | None = None) -> str:
    (translation,) = (dictionary or open_dictionary()).translate([label], kind)
    return translation.chinese


def source(label: str, kind: Kind = "object", dictionary: TagDictionary | None = None) -> str:
    (translation,) = (dictionary or open_dictionary()).translate([label], kind)
    return translation.source


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("Car", "汽车"),
        ("cars", "汽车"),
        ("people", "人"),
        ("traffic-lights", "红绿灯"),
        ("T-Shirt", "T恤"),
        ("skis", "滑雪板"),
        ("hair drier", "吹风机"),
        ("tyres", "轮胎"),
        ("firetruck", "消防车"),
        ("back-packs", "背包"),
        ("orange", "橙子"),
        ("glasses", "眼镜"),
    ],
)
def test_objects_are_found_in_every_spelling(label: str, word: str) -> None:
    assert chinese(label) == word
    assert source(label) == "lexicon"


@pytest.mark.parametrize(
    ("label", "word"),
    [("orange", "橙色"), ("Grey", "灰色"), ("multi-coloured", "多色"), ("light", "浅色")],
)
def test_attributes_have_their_own_sense(label: str, word: str) -> None:
    assert chinese(label, "attribute") == word


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("red car", "红色的汽车"),
        ("Big red striped cars", "红色条纹的大汽车"),
        ("dark purple umbrella", "深紫色的雨伞"),
        ("red and white kite", "红色和白色的风筝"),
        ("orange cat", "橙色的猫"),
        ("glass door", "玻璃门"),
        ("running dogs", "奔跑的狗"),
    ],
)
def test_attribute_and_object_make_a_phrase(label: str, phrase: str) -> None:
    assert chinese(label) == phrase


def test_shades_of_a_colour_make_a_colour() -> None:
    assert chinese("dark purple", "attribute") == "深紫色"
    assert chinese("purple colored", "attribute") == "紫色"
    assert source("dark purple", "attribute") == "composed"
    assert source("dark xyz", "attribute") == "kept"


@pytest.mark.parametrize("label", ["xylophone", "red xylophone", "xylophone car", "news", ""])
def test_nothing_is_made_up(label: str) -> None:
    assert chinese(label) == label
    assert source(label) == "kept"


def test_a_word_of_the_other_kind_is_borrowed_and_said_so() -> None:
    assert (chinese("sidewalk", "attribute"), source("sidewalk", "attribute")) == (
        "人行道",
        "borrowed",
    )
    assert (chinese("shiny"), source("shiny")) == ("闪亮", "borrowed")
    assert source("glasses", "attribute") == "borrowed"


def test_a_domain_speaks_with_its_own_words() -> None:
    demo = open_dictionary(domain="rendered_scenes")
    assert chinese("car", dictionary=demo) == "车"
    assert chinese("red car", dictionary=demo) == "红色的车"
    assert chinese("dog", dictionary=demo) == "狗"


def test_the_order_decides_who_is_asked_first(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps({"orange": "甲", "flugelhorn": "乙"}), encoding="utf-8")
    lexicon_first = open_dictionary(path)
    dictionary_first = open_dictionary(path, first="dictionary")
    assert chinese("orange", dictionary=lexicon_first) == "橙子"
    assert chinese("orange", dictionary=dictionary_first) == "甲"
    assert source("flugelhorns", dictionary=lexicon_first) == "mengzi"
    assert chinese("orange", "attribute", dictionary_first) == "橙色"


@pytest.mark.parametrize(
    ("policy", "word", "source"), [("keep", "zzz", "kept"), ("drop", "", "dropped")]
)
def test_a_policy_says_what_becomes_of_an_unknown_word(
    policy: Policy, word: str, source: str
) -> None:
    (translation,) = open_dictionary(policy=policy).translate(["zzz"], "object")
    assert (translation.chinese, translation.source) == (word, source)
    assert not translation.is_covered


def test_the_policy_fail_names_every_unknown_word_once() -> None:
    with pytest.raises(UntranslatedError, match="'zzz', 'yyy'") as caught:
        open_dictionary(policy="fail").translate(["zzz", "car", "yyy", "zzz"], "object")
    assert caught.value.missing == ("zzz", "yyy")


def test_an_unknown_domain_is_refused() -> None:
    with pytest.raises(DictionaryError, match="domain"):
        open_dictionary(domain="mars")


@given(
    first=st.lists(LABELS),
    second=st.lists(LABELS),
    entries=st.dictionaries(LABELS, WORDS),
    kind=st.sampled_from(KINDS),
)
def test_translation_goes_word_by_word(
    first: list[str], second: list[str], entries: dict[str, str], kind: Kind
) -> None:
    words = WordList(source="mine", words=dict.fromkeys(KINDS, entries))
    translate = TagDictionary([words]).translate
    together = translate(first + second, kind)
    assert together == translate(first, kind) + translate(second, kind)
    assert [each.english for each in together] == first + second
    assert all(each.chinese or not each.english for each in together)


@given(label=st.text(max_size=30), kind=st.sampled_from(KINDS))
def test_any_label_at_all_gives_one_answer(label: str, kind: Kind) -> None:
    (translation,) = open_dictionary().translate([label], kind)
    assert translation.english == label
    assert translation.is_covered or translation.chinese == label
