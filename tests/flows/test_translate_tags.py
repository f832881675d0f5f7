import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.stages.translate_tags import Config, Inputs, Outputs, Summary, run
from storage.errors import StorageError
from storage.records import ImageRegions
from storage.tag_shards import read_tags
from tests.builders_storage import bytes_of, make_regions, write_regions
from translation.errors import DictionaryError, UntranslatedError


def named(image_id: str, *names: str, attributes: tuple[tuple[str, ...], ...] = ()) -> ImageRegions:
    regions = make_regions(image_id, num=len(names))
    return replace(regions, class_names=names, attribute_names=attributes or ((),) * len(names))


IMAGES = [
    named("p/1", "car", "zzz", attributes=(("red", "qqq"), ())),
    named("p/2"),
    named("p/3", "orange", "zzz", attributes=((), ("orange",))),
]


def translate(folder: Path, **config: Any) -> tuple[Summary, Outputs]:
    if not (folder / "regions").exists():
        write_regions(folder / "regions", IMAGES)
    outputs = Outputs(tags=folder / "tags", coverage=folder / "coverage.json")
    return run(Config(**config), Inputs(regions=folder / "regions"), outputs), outputs


def test_tags_stand_row_for_row_with_the_regions(tmp_path: Path) -> None:
    summary, outputs = translate(tmp_path)
    tags = read_tags(outputs.tags)
    assert list(tags) == ["p/1", "p/2", "p/3"]
    assert tags["p/1"].tags == ("汽车", "zzz")
    assert tags["p/1"].attributes == (("红色", "qqq"), ())
    assert tags["p/2"].tags == ()
    assert tags["p/3"].tags == ("橙子", "zzz")
    assert tags["p/3"].attributes == ((), ("橙色",))
    assert (summary.num_in, summary.num_out, summary.num_quarantined) == (3, 3, 0)
    assert (summary.num_labels, summary.num_untranslated) == (7, 3)


def test_the_coverage_names_what_is_missing(tmp_path: Path) -> None:
    _, outputs = translate(tmp_path)
    report = json.loads(outputs.coverage.read_text(encoding="utf-8"))
    assert report["lexicon_version"]
    assert report["by_source"] == {"lexicon": 4, "kept": 3}
    assert report["missing"] == [
        {"english": "zzz", "kind": "object", "count": 2},
        {"english": "qqq", "kind": "attribute", "count": 1},
    ]


def test_a_dropped_word_leaves_its_row_empty_and_its_attribute_out(tmp_path: Path) -> None:
    _, outputs = translate(tmp_path, policy="drop")
    tags = read_tags(outputs.tags)
    assert tags["p/1"].tags == ("汽车", "")
    assert tags["p/1"].attributes == (("红色",), ())


def test_the_policy_fail_names_all_words_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UntranslatedError, match="'zzz', 'qqq'"):
        translate(tmp_path, policy="fail")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["regions"]


def test_english_tags_are_the_labels_themselves(tmp_path: Path) -> None:
    summary, outputs = translate(tmp_path, language="en", policy="fail")
    tags = read_tags(outputs.tags)
    assert tags["p/3"].tags == ("orange", "zzz")
    assert tags["p/3"].language == "en"
    assert summary.num_untranslated == 0


def test_a_domain_speaks_as_its_captions_do(tmp_path: Path) -> None:
    _, outputs = translate(tmp_path, domain="rendered_scenes")
    assert read_tags(outputs.tags)["p/1"].tags[0] == "车"


def test_a_dictionary_fills_what_the_lexicon_lacks(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text('{"zzz": "字", "car": "甲"}', encoding="utf-8")
    _, outputs = translate(tmp_path, dictionary=path)
    assert read_tags(outputs.tags)["p/1"].tags == ("汽车", "字")
    _, outputs = translate(tmp_path, dictionary=path, first="dictionary")
    assert read_tags(outputs.tags)["p/1"].tags == ("甲", "字")


def test_a_bad_dictionary_stops_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(DictionaryError, match=r"words\.json"):
        translate(tmp_path, dictionary=path)
    assert not (tmp_path / "tags").exists()


def test_incomplete_regions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "regions").mkdir()
    with pytest.raises(StorageError, match=r"manifest\.json"):
        translate(tmp_path)


def test_running_again_gives_the_same_bytes(tmp_path: Path) -> None:
    _, outputs = translate(tmp_path)
    first = bytes_of(outputs.tags) | {"coverage": outputs.coverage.read_bytes()}
    _, outputs = translate(tmp_path)
    assert bytes_of(outputs.tags) | {"coverage": outputs.coverage.read_bytes()} == first
