"""Chinese counts with a measure word between number and noun: one car, 一辆汽车."""

from translation.grammar import own_grammar

SOME = "些"
"""Measure of what is not counted, water or grass; it goes with the number one alone."""

_ONE = "一"
_NUMBERS = ("零", _ONE, "两", "三", "四", "五", "六", "七", "八", "九", "十")


def measure_word(noun: str) -> str:
    """The measure word of a Chinese noun: 辆 of 警车, 只 of 猫, 个 where no other is known."""
    return own_grammar().measure_word(noun)


def counted(noun: str, number: int = 1, *, attributes: str = "") -> str:
    """Number, measure word and noun: 一辆汽车, 两只猫, 12个苹果, 一些水.

    Args:
        noun: Chinese; one that begins with its own count (一串香蕉) keeps its measure word.
        number: at least 0; above ten written in digits.
        attributes: Chinese words before the noun, particle included ("红色的"). They stand
            behind the measure word, which depends on the noun alone.

    Returns:
        The phrase; "" for an empty noun.

    Raises:
        ValueError: The number is negative.
    """
    if number < 0:
        raise ValueError(f"cannot count {number} of {noun!r}; give 0 or more")
    if not noun:
        return ""
    count = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    if noun.startswith(_ONE):
        return f"{attributes}{count}{noun.removeprefix(_ONE)}"
    measure = measure_word(noun)
    if measure == SOME and number > 1:
        count = _ONE
    return f"{count}{measure}{attributes}{noun}"
