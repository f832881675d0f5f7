"""What is no translation, and what only looks unusual."""

import pytest

from oscar_core.translation_checks import is_number, problem_of


@pytest.mark.parametrize(
    ("source", "text", "problem"),
    [
        ("a cat", "一只猫", ""),
        ("a cat", "", "empty"),
        ("a cat", "。，", "empty"),
        ("a cat", "a cat", "untranslated"),
        ("a cat", "猫猫猫猫", "repeats"),
        ("a cat", "一只猫和一只猫和一只猫和一只猫和", "repeats"),
        ("ha ha ha ha", "哈哈哈哈", ""),
        ("he says ha", "走来走去，一步一步", ""),
        ("a sign says 10000", "牌子上写着10000", ""),
        ("10000 people", "10000人", ""),
        ("a", "的一的二的一的二的一的一的二的二的一的一的二的", "repeats"),
    ],
)
def test_a_problem_has_a_name(source: str, text: str, problem: str) -> None:
    assert problem_of(source, text, language="zh", has_ended=True) == problem


def test_what_did_not_end_is_no_sentence() -> None:
    assert problem_of("a cat", "一只", language="zh", has_ended=False) == "unfinished"


def test_only_chinese_has_to_hold_chinese() -> None:
    assert problem_of("eine Katze", "a cat", language="en", has_ended=True) == ""


def test_numbers_need_no_model() -> None:
    assert is_number("2")
    assert is_number("10:30")
    assert is_number("50%")
    assert not is_number("2 cats")
    assert not is_number("?")
