"""Attribute and object as one Chinese phrase: the particle "de" where it belongs, and once."""

from collections.abc import Collection, Sequence

from translation.lexicon import own_lexicon

DE = "的"


def compose(attribute: str, thing: str, direct: Collection[str] | None = None) -> str:
    """Chinese phrase of one attribute and one object; the colour red and a car: 红色的汽车.

    Args:
        attribute: Chinese word, with or without its particle.
        thing: Chinese noun.
        direct: attributes that need no particle (大, 玻璃); None for those of our lexicon.

    Returns:
        The phrase; the other word alone where one is empty.
    """
    return compose_all([attribute], thing, direct)


def compose_all(
    attributes: Sequence[str], thing: str, direct: Collection[str] | None = None
) -> str:
    """Chinese phrase of an object with several attributes.

    Those that take the particle come first and share one; those that join directly stand beside
    the noun: red, big, striped, car give 红色条纹的大汽车.
    """
    joining = own_lexicon().direct if direct is None else direct
    far: list[str] = []
    near: list[str] = []
    for attribute in attributes:
        bare = attribute.rstrip(DE)
        (near if bare in joining else far).append(bare)
    noun = thing
    for bare in reversed(near):
        if not noun.startswith(bare):
            noun = bare + noun
    modifiers = "".join(dict.fromkeys(far))
    if not (modifiers and noun):
        return modifiers or noun
    return f"{modifiers}{DE}{noun.removeprefix(DE)}"
