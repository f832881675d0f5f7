"""Why a step must run again, in words."""

from typing import Any

from flows.digests import Listing
from flows.reasons import reasons

SOURCES = {"regions": "detect", "tags": "translate_tags", "steps:vqa": "vqa_score"}


def identity(**changes: Any) -> dict[str, Any]:
    plain = {
        "stage": "train",
        "version": 1,
        "config": {"training": {"steps": 4, "rates": [1, 2]}, "task": "vqa"},
        "inputs": {"regions": "a/regions", "tags": "b/tags"},
        "outside": {"vocabulary": "1"},
    }
    return {**plain, **changes}


def changed(**changes: Any) -> list[str]:
    return reasons(identity(), identity(**changes), SOURCES, lambda digest: None)


def test_equal_identities_have_no_reason() -> None:
    assert changed() == []


def test_a_setting_is_named_with_both_values() -> None:
    config = {"training": {"steps": 5, "rates": [1, 3]}, "task": "vqa"}
    assert changed(config=config) == [
        "config.training.rates.1 2 -> 3",
        "config.training.steps 4 -> 5",
    ]


def test_long_values_are_cut() -> None:
    [said] = changed(config={**identity()["config"], "task": "x" * 100})
    assert len(said) < 70


def test_the_version_of_the_code_is_named() -> None:
    assert changed(version=2) == ["stage version 1 -> 2"]


def test_steps_that_change_before_it_are_named_once() -> None:
    assert changed(inputs={"regions": "x/regions", "tags": "y/tags"}) == [
        "made anew before it: detect, translate_tags"
    ]


def test_inputs_that_came_or_went_are_named() -> None:
    assert changed(inputs={"regions": "a/regions", "steps:vqa": "z"}) == [
        "takes more: steps:vqa from vqa_score",
        "takes no longer: tags",
    ]


def test_files_from_outside_are_named_by_key() -> None:
    assert changed(outside={"vocabulary": "2"}) == ["vocabulary: other contents"]
    assert changed(outside={}) == ["vocabulary: no longer taken"]
    assert changed(outside={"vocabulary": "1", "start": "1"}) == ["start: new, from outside"]


def test_of_a_folder_it_is_said_which_files() -> None:
    held = {
        "1": Listing(digests={f"{name}.jpg": "0" for name in "abcdef"}),
        "2": Listing(digests={"e.jpg": "1", "f.jpg": "0", "g.jpg": "0"}),
    }
    [said] = reasons(
        identity(outside={"photos:0": "1"}), identity(outside={"photos:0": "2"}), {}, held.get
    )
    assert said == (
        "photos:0: 1 file added (g.jpg), 4 files removed (a.jpg, b.jpg, c.jpg, ...), "
        "1 file changed (e.jpg)"
    )
