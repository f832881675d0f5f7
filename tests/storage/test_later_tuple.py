import copy
import pickle

import pytest

from storage.later_tuple import LaterTuple


def test_nothing_is_made_before_somebody_looks() -> None:
    asked = []

    def make() -> list[str]:
        asked.append(1)
        return ["dog", "狗"]

    names = LaterTuple(2, make)
    assert (len(names), asked) == (2, [])
    assert (names[1], list(names), names[:1]) == ("狗", ["dog", "狗"], ("dog",))
    assert asked == [1]


def test_it_equals_the_tuple_it_stands_for() -> None:
    names = LaterTuple(2, lambda: ("a", "b"))
    assert names == ("a", "b")
    assert ("a", "b") == names  # noqa: SIM300 - the tuple is asked first
    assert names != ("a",)
    assert names != ["a", "b"]
    assert hash(names) == hash(("a", "b"))
    assert (repr(names), (*names, "c")) == ("('a', 'b')", ("a", "b", "c"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_a_plain_tuple(copied) -> None:
    found = copied(LaterTuple(1, lambda: iter(["a"])))
    assert (type(found), found) == (tuple, ("a",))
