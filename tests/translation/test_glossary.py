"""Known words of a sentence, and whether their Chinese stands in the translation."""

import pytest

from translation.glossary import Glossary, GlossaryCount, own_glossary

WORDS = Glossary(
    {
        "car": ["汽车"],
        "fire truck": ["消防车"],
        "truck": ["卡车"],
        "red": ["红色"],
        "orange": ["橙子", "橙色"],
        "bear": ["熊"],
    }
)


def said(english: str, chinese: str) -> list[tuple[str, bool]]:
    return [(use.english, use.is_said) for use in WORDS.uses(english, chinese)]


@pytest.mark.parametrize(
    ("english", "chinese", "uses"),
    [
        ("a red car", "一辆红色的汽车", [("red", True), ("car", True)]),
        ("a red car", "一辆红轿车", [("red", True), ("car", False)]),
        ("Two CARS.", "两辆汽车", [("car", True)]),
        ("the fire-trucks wait", "卡车在等", [("fire truck", False)]),
        ("an orange shirt", "橙色的衬衫", [("orange", True)]),
        ("I bear it", "我忍受它", []),
        ("", "", []),
    ],
)
def test_words_are_found_the_longest_first(
    english: str, chinese: str, uses: list[tuple[str, bool]]
) -> None:
    assert said(english, chinese) == uses


def test_the_count_lists_the_most_frequent_first_with_a_sentence() -> None:
    count = GlossaryCount()
    for english, chinese in (
        ("a car", "轿车"),
        ("a truck", "货车"),
        ("my car", "车"),
        ("red", "红"),
    ):
        count.add(WORDS, english, chinese)
    told = count.as_json(num_listed=1)
    assert (told["words"], told["missing_uses"], told["missing_words"]) == (4, 3, 2)
    assert told["missing"] == [
        {
            "english": "car",
            "chinese": ["汽车"],
            "count": 2,
            "sentence": "a car",
            "translation": "轿车",
        }
    ]


def test_our_own_words_are_known() -> None:
    uses = list(own_glossary().uses("a dog on a striped sofa", "狗在条纹沙发上"))
    assert [use.english for use in uses if use.is_said] == ["dog", "striped", "sofa"]
