import json
from pathlib import Path

import pytest

from translation.errors import DictionaryError
from translation.grammar import FORMAT, AttributeClass, own_grammar, read_grammar


def write(folder: Path, **changes: object) -> Path:
    content = {"format": FORMAT, "language": "zh", "classes": {}, "endings": {}, "measures": {}}
    path = folder / "grammar.json"
    path.write_text(json.dumps(content | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("红色", "colour"),
        ("荧光绿", "colour"),
        ("褪色", "state"),
        ("条纹", "pattern"),
        ("圆形", "shape"),
        ("木制", "material"),
        ("塑料", "material"),
        ("大", "size"),
        ("旧", "age"),
        ("站着", "action"),
        ("一串", "quantity"),
        ("破损", "state"),
        ("", "state"),
    ],
)
def test_attributes_have_a_kind(word: str, kind: AttributeClass) -> None:
    assert own_grammar().attribute_class(word) == kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "x"}, "not a grammar"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"classes": []}, "classes must be an object"),
        ({"classes": {"taste": ["甜"]}}, "classes.taste is no kind of attribute"),
        ({"measures": {"个": "人"}}, "measures.个 must be a list of words"),
        ({"measures": {"个": ["人"], "位": ["人"]}}, "measures.位: 人 stands twice"),
    ],
)
def test_a_bad_grammar_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DictionaryError, match=r"grammar\.json") as caught:
        read_grammar(write(tmp_path, **changes))
    assert said in str(caught.value)
