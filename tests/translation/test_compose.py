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
        ("条纹", "衬衫", "条纹的衬衫"),
        ("木制", "桌子", "木制的桌子"),
        ("一串", "香蕉", "一串香蕉"),
        ("", "树", "树"),
        ("红色", "", "红色"),
        ("大", "", "大"),
    ],
)
def test_the_particle_stands_where_it_belongs(attribute: str, thing: str, phrase: str) -> None:
    assert compose(attribute, thing) == phrase


def test_several_attributes_share_one_particle_and_size_stands_beside_the_noun() -> None:
    assert compose_all(["大", "红色", "条纹"], "汽车") == "红色条纹的大汽车"


@pytest.mark.parametrize(
    ("attributes", "thing", "phrase"),
    [
        (["站着", "黑色"], "狗", "站着的黑色狗"),
        (["黑色", "站着"], "狗", "站着的黑色狗"),
        (["木制", "红色"], "桌子", "红色的木制桌子"),
        (["塑料", "大"], "椅子", "大塑料椅子"),
        (["一串", "黄色"], "香蕉", "一串黄色的香蕉"),
        (["红色", "白色", "蓝色"], "旗帜", "红色、白色和蓝色的旗帜"),
        (["大", "木制", "红色", "破损"], "门", "破损的红色木制大门"),
        (["条纹", "黄色"], "衬衫", "黄色条纹的衬衫"),
    ],
)
def test_each_kind_of_attribute_has_its_place(
    attributes: list[str], thing: str, phrase: str
) -> None:
    assert compose_all(attributes, thing) == phrase


def test_the_same_attribute_twice_is_said_once() -> None:
    assert compose_all(["红色", "红色"], "汽车") == "红色的汽车"


@given(attributes=st.lists(st.one_of(WORDS, WORDS.map(lambda word: f"{word}的"))), thing=WORDS)
def test_no_phrase_has_a_double_particle(attributes: list[str], thing: str) -> None:
    phrase = compose_all(attributes, thing, direct={"大", "小"})
    assert "的的" not in phrase
    assert phrase.endswith(thing)
    assert not phrase.startswith("的")
    assert all(each.rstrip("的") in phrase for each in attributes)
