import json
from pathlib import Path
from typing import Any

import pytest

from flows.demo.texts import CLASS_ZH, chinese_words
from tests.locations import data_dir
from translation.dictionary import open_dictionary
from translation.errors import DictionaryError
from translation.lexicon import FORMAT, KINDS, Kind, own_lexicon, read_lexicon


def read(*parts: str) -> Any:
    return json.loads(data_dir(*parts).read_text(encoding="utf-8"))


def write(folder: Path, **changes: object) -> Path:
    content = {"format": FORMAT, "version": "1", "language": "zh", "objects": {}, "attributes": {}}
    path = folder / "lexicon.json"
    path.write_text(json.dumps(content | changes), encoding="utf-8")
    return path


def test_it_says_which_version_it_is() -> None:
    assert own_lexicon().version.count(".") == 2
    assert own_lexicon().language == "zh"


@pytest.mark.parametrize("kind", KINDS)
def test_the_demo_speaks_word_for_word_as_its_captions_do(kind: Kind) -> None:
    dictionary = open_dictionary(domain="rendered_scenes", policy="fail")
    words = {
        english: chinese
        for english, chinese in chinese_words().items()
        if (english in CLASS_ZH) == (kind == "object")
    }
    translated = dictionary.translate(list(words), kind)
    assert {each.english: each.chinese for each in translated} == words


@pytest.mark.parametrize(("kind", "key"), [("object", "label"), ("attribute", "attribute")])
def test_it_holds_every_name_of_the_published_label_map(kind: Kind, key: str) -> None:
    names = read("labelmaps", "VG-SGG-dicts-vgoi6-clipped.json")[f"{key}_to_idx"]
    translated = open_dictionary().translate(list(names), kind)
    assert [each.english for each in translated if each.source != "lexicon"] == []


def test_it_knows_the_names_of_coco_and_of_the_older_vocabularies() -> None:
    names = [category["name"] for category in read("labelmaps", "coco_80_categories.json")]
    text = data_dir("labelmaps", "vg_objects_vocab_1600.txt").read_text(encoding="utf-8")
    names += [name.strip() for line in text.splitlines() for name in line.split(",")]
    translated = open_dictionary().translate(names, "object")
    assert {each.english for each in translated if not each.is_covered} == set()
    text = data_dir("labelmaps", "vg_attributes_vocab_400.txt").read_text(encoding="utf-8")
    attributes = [name.strip() for line in text.splitlines() for name in line.split(",")]
    translated = open_dictionary().translate(attributes, "attribute")
    assert {each.english for each in translated if not each.is_covered} == set()


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parent / "names").glob("*.txt")), ids=lambda file: file.stem
)
def test_it_holds_every_name_of_other_published_lists(file: Path) -> None:
    names = file.read_text(encoding="utf-8").splitlines()
    assert len(names) > 500
    translated = open_dictionary().translate(names, "object")
    assert [each.english for each in translated if each.source != "lexicon"] == []


def test_it_tells_apart_what_other_lists_tell_apart_by_a_note_in_brackets() -> None:
    words = open_dictionary().translate(
        ["bat_(animal)", "bat", "Nail (Construction)", "nail", "pipe_(unknown note)"], "object"
    )
    assert [each.chinese for each in words] == ["蝙蝠", "球棒", "钉子", "指甲", "管子"]


def test_every_attribute_that_the_published_dictionary_lacks_has_a_word() -> None:
    gaps = read("translation", "mengzi_gaps.json")["attributes"]["missing"]
    assert len(gaps) > 400
    translated = open_dictionary().translate(gaps, "attribute")
    assert [each.english for each in translated if each.source != "lexicon"] == []


def test_it_has_an_accepted_sense_wherever_the_published_dictionary_is_wrong_or_doubtful() -> None:
    for name in ("mengzi_wrong_translations.json", "mengzi_doubtful_translations.json"):
        expected = read("translation", name)
        translated = open_dictionary().translate(list(expected), "object")
        wrong = [
            each.english
            for each in translated
            if each.chinese not in expected[each.english]["expected"]
        ]
        assert wrong == [], name


def test_a_name_that_is_both_object_and_attribute_has_a_sense_note_as_each() -> None:
    label_map = read("labelmaps", "VG-SGG-dicts-vgoi6-clipped.json")
    both = label_map["label_to_idx"].keys() & label_map["attribute_to_idx"].keys()
    assert len(both) == 91
    lexicon = own_lexicon()
    assert [n for n in both if not all(lexicon.sense(n, kind) for kind in KINDS)] == []
    assert lexicon.words("object")["orange"] == "橙子"
    assert lexicon.words("attribute")["orange"] == "橙色"


def test_every_word_can_be_written_with_the_published_vocabulary() -> None:
    text = data_dir("vocab", "bert-base-chinese-vocab.txt").read_text(encoding="utf-8")
    vocabulary = set(text.split("\n"))
    words = {word for kind in KINDS for word in own_lexicon().words(kind).values()}
    signs = {sign for word in words for sign in word.lower()}
    assert signs - vocabulary == set()
    assert [word for word in words if " " in word or word.endswith("的")] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "x"}, "not a lexicon"),
        ({"objects": {"Car": "车"}}, "objects.Car is not in its normal form"),
        ({"objects": {"car": ""}}, "objects.car is empty"),
        ({"objects": {"car": {"zh": "车", "note": ""}}}, "objects.car has unknown keys"),
        ({"objects": {"car": {"sense": ""}}}, "objects.car is null"),
        ({"objects": []}, "objects must be an object"),
        ({"aliases": {"auto": "car"}}, "aliases.auto must be a new name of an object"),
        ({"direct": "大"}, "direct must be a list"),
        ({"domains": {"sea": {"objekts": {}}}}, "unknown key 'objekts'"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_a_bad_lexicon_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(DictionaryError, match=r"lexicon\.json") as caught:
        read_lexicon(write(tmp_path, **changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_domain_is_refused_with_those_there_are() -> None:
    with pytest.raises(DictionaryError, match=r"'mars'.*'rendered_scenes'"):
        own_lexicon().words("object", "mars")


def test_every_name_in_the_real_annotations_has_a_word() -> None:
    dictionary = open_dictionary()
    labels: dict[Kind, list[str]] = {"object": [], "attribute": []}
    for file, key in (("objects", "objects"), ("attributes", "attributes")):
        for record in read("real", "visual_genome", f"{file}.json"):
            for region in record[key]:
                labels["object"] += region["names"]
                labels["attribute"] += region.get("attributes", [])
    for split in ("train", "val"):
        instances = read("real", "coco", "annotations", f"instances_{split}2017.json")
        labels["object"] += [category["name"] for category in instances["categories"]]
    assert len(labels["object"]) > 100
    for kind, names in labels.items():
        translated = dictionary.translate(names, kind)
        assert {each.english for each in translated if not each.is_covered} == set()


def test_what_the_page_on_the_second_reading_says_of_changes_is_so() -> None:
    page = Path(__file__).parents[2] / "docs" / "lexicon_second_reading.md"
    changes = page.read_text(encoding="utf-8").split("## What was changed")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in changes.splitlines()]
    changed = [row for row in rows if len(row) == 5 and row[1] in KINDS]
    assert len(changed) > 20
    dictionary = open_dictionary()
    for english, kind, before, after, _ in changed:
        spoken = dictionary.translate([english], "object" if kind == "object" else "attribute")
        assert (english, spoken[0].chinese) == (english, after)
        assert before != after
