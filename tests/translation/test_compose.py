import pytest
from hypothesis import given
from hypothesis import strategies as st

from translation.compose import compose, compose_all

WORDS = st.text(alphabet="红蓝大小木色制车树人", min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("attribute", "thing", "phrase"),
    [
        ("红色", "汽车", "红色的汽车"),
        ("红色的", "汽车", "红色的汽车"),
        ("大", "树", "大树"),
        ("玻璃", "门", "玻璃门"),
        ("站着", "男人", "站着的男人"),
        ("棕榈", "棕榈树", "棕榈树"),
        ("", "树", "树"),
        ("红色", "", "红色"),
    ],
)
def test_the_particle_stands_where_it_belongs(attribute: str, thing: str, phrase: str) -> None:
    assert compose(attribute, thing) == phrase


def test_several_attributes_share_one_particle_and_size_stands_beside_the_noun() -> None:
    assert compose_all(["大", "红色", "条纹"], "汽车") == "红色条纹的大汽车"


def test_the_same_attribute_twice_is_said_once() -> None:
    assert compose_all(["红色", "红色"], "汽车") == "红色的汽车"


@given(attributes=st.lists(st.one_of(WORDS, WORDS.map(lambda word: f"{word}的"))), thing=WORDS)
def test_no_phrase_has_a_double_particle(attributes: list[str], thing: str) -> None:
    phrase = compose_all(attributes, thing, direct={"大", "小"})
    assert "的的" not in phrase
    assert phrase.endswith(thing)
    assert not phrase.startswith("的")
    assert all(each.rstrip("的") in phrase for each in attributes)
