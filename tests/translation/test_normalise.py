import pytest
from hypothesis import given
from hypothesis import strategies as st

from translation.normalise import americanise, normalise, singulars, spellings


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("Traffic Light", "traffic light"),
        ("  traffic\tlight \n", "traffic light"),
        ("traffic-light", "traffic light"),
        ("traffic_light", "traffic light"),
        ("snow–covered", "snow covered"),
        ("catcher's mitt", "catchers mitt"),
        ("catcher\u2019s mitt", "catchers mitt"),
        ("\uff23\uff21\uff32", "car"),
        ("-", ""),
    ],
)
def test_every_way_of_writing_comes_to_one_form(written: str, form: str) -> None:
    assert normalise(written) == form


@given(st.text())
def test_normalising_twice_changes_nothing(label: str) -> None:
    assert normalise(normalise(label)) == normalise(label)


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_case_and_outer_space_do_not_count(label: str) -> None:
    assert normalise(f"  {label.upper()}\n") == normalise(label)


@pytest.mark.parametrize(
    ("british", "american"),
    [
        ("grey", "gray"),
        ("multi coloured", "multi colored"),
        ("tyres", "tires"),
        ("aluminium", "aluminum"),
        ("neighbour", "neighbor"),
        ("flour", "flour"),
        ("four hours", "four hours"),
    ],
)
def test_british_spelling_becomes_american(british: str, american: str) -> None:
    assert americanise(british) == american


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("cars", "car"),
        ("buses", "bus"),
        ("boxes", "box"),
        ("ties", "tie"),
        ("berries", "berry"),
        ("cookies", "cookie"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("gloves", "glove"),
        ("people", "person"),
        ("policemen", "policeman"),
        ("women", "woman"),
        ("feet", "foot"),
        ("potatoes", "potato"),
        ("skis", "ski"),
    ],
)
def test_the_singular_is_among_the_guesses(plural: str, singular: str) -> None:
    assert singular in list(singulars(plural))


@pytest.mark.parametrize("word", ["glass", "dress", "grass", "car", "as", ""])
def test_words_that_are_no_plurals_have_no_singular(word: str) -> None:
    assert list(singulars(word)) == []


@given(st.text(), st.booleans())
def test_spellings_are_distinct_and_begin_with_the_label_itself(label: str, inflect: bool) -> None:
    forms = list(spellings(label, inflect=inflect))
    assert len(forms) == len(set(forms))
    assert "" not in forms
    assert forms[:1] == ([normalise(label)] if normalise(label) else [])


def test_attributes_are_not_inflected() -> None:
    assert "glass" in list(spellings("glasses"))
    assert "glass" not in list(spellings("glasses", inflect=False))


def test_compounds_are_tried_in_every_number_and_as_one_word() -> None:
    forms = list(spellings("Grape-Fruits"))
    assert forms.index("grape fruit") < forms.index("grapefruit")
    assert "shin guard" in list(spellings("shins guards"))


def test_notes_in_brackets_are_left_out_where_the_whole_is_unknown() -> None:
    forms = list(spellings("bat_(animal)"))
    assert forms[0] == "bat (animal)"
    assert forms.index("bat") > 0
    assert "textile" in list(spellings("(made of)Textile", inflect=False))
    assert "" not in list(spellings("(animal)"))
