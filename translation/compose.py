"""Attributes and object as one Chinese phrase: words in their order, the particle once.

Order, from far to near the noun: quantity; actions, states and opinions, each with its particle;
colours, patterns and shapes; what something is made of; then the words that join the noun
directly (`direct` of the lexicon), age and size before purpose and material.
"""

from collections.abc import Collection, Iterable, Sequence

from translation.grammar import AttributeClass, own_grammar
from translation.lexicon import own_lexicon

DE = "的"
_AND = "和"
_COMMA = "、"
_LOOKS: tuple[AttributeClass, ...] = ("colour", "pattern", "shape")
_NEAR: tuple[AttributeClass, ...] = ("age", "size")


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

    At most one particle is spent on looks and material, none where an action or a state before
    them has one: red, big, striped, car give 红色条纹的大汽车; standing, black, dog give
    站着的黑色狗; red, wooden, table give 红色的木制桌子. An attribute that the noun begins with
    is not said again.
    """
    thing = thing.lstrip(DE)
    joining = own_lexicon().direct if direct is None else direct
    bare = dict.fromkeys(word.rstrip(DE) for word in attributes)
    said = [word for word in bare if word and not thing.startswith(word)]
    near = [word for word in said if word in joining]
    far = [word for word in said if word not in joining]
    quantity = _of_class([*far, *near], ("quantity",))
    states = [word for word in _rest(far, quantity) if _kind(word) in ("state", "action")]
    others = _rest(far, [*quantity, *states])
    looks = _looks(others)
    units = [unit for unit in (looks, *_rest(others, _of_class(others, _LOOKS))) if unit]
    near = _rest(near, quantity)
    first = _of_class(near, _NEAR)
    noun = "".join([*first, *_rest(near, first)]) + thing
    tail = "".join(units) + noun if states else DE.join([*units[:1], "".join(units[1:]) + noun])
    if not noun:
        tail = "".join(units)
    if not thing and not tail:
        return "".join([*quantity, DE.join(states)])
    return "".join([*quantity, *(f"{state}{DE}" for state in states), tail])


def _kind(word: str) -> AttributeClass:
    return own_grammar().attribute_class(word)


def _of_class(words: Iterable[str], kinds: Sequence[AttributeClass]) -> list[str]:
    """Words of some kinds, kind after kind, else in their order."""
    return [word for kind in kinds for word in words if _kind(word) == kind]


def _rest(words: Iterable[str], without: Collection[str]) -> list[str]:
    return [word for word in words if word not in without]


def _looks(words: Sequence[str]) -> str:
    """Colours joined by "and", behind them patterns and shapes."""
    colours = _of_class(words, ("colour",))
    joined = _COMMA.join(colours[:-1]) + (_AND if len(colours) > 1 else "") + "".join(colours[-1:])
    return joined + "".join(_of_class(words, ("pattern", "shape")))
