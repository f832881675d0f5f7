"""The plan as data, and the identity of its steps."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.fake_stage
from flows.digests import DigestBook
from flows.errors import PlanError
from flows.plan import Plan, source_of
from storage.errors import MissingFileError
from tests.builders_flows import make_execution, make_step


def test_a_step_must_look_back() -> None:
    with pytest.raises(PlanError, match="step 'a' needs 'b', which comes later"):
        Plan((make_step("a", takes="b"), make_step("b")))


def test_names_are_unique() -> None:
    with pytest.raises(PlanError, match="two steps are named 'a'"):
        Plan((make_step("a"), make_step("a")))


def test_an_output_that_the_stage_has_not_is_named(tmp_path: Path) -> None:
    wrong = replace(make_step("b"), inputs={"text": "a.regions"})
    with pytest.raises(PlanError, match="step 'b': 'a' has no output 'regions', only text"):
        make_execution(tmp_path, [make_step("a"), wrong])


def test_step_names_may_hold_dots() -> None:
    names = ("vqa", "vqa.train")
    assert source_of("vqa.train", names).output == ""
    assert source_of("vqa.train.model", names).step == "vqa.train"


def test_a_reference_may_reach_inside_an_output() -> None:
    names = ("render", "render.more")
    source = source_of("render.scenes/annotations/a.b.json", names)
    assert (source.step, source.output, source.inside) == (
        "render",
        "scenes",
        "annotations/a.b.json",
    )
    assert source_of("render.more/x.y", names).inside == "x.y"


def test_an_input_inside_an_output_is_placed_there(tmp_path: Path) -> None:
    deep = replace(make_step("b"), inputs={"text": "a.text/deep/file.txt"})
    shallow = replace(make_step("b"), inputs={"text": "a.text"})
    one = make_execution(tmp_path, [make_step("a"), deep]).prepared
    other = make_execution(tmp_path, [make_step("a"), shallow]).prepared
    assert one["b"].inputs["text"] == one["a"].folder / "text" / "deep" / "file.txt"
    assert one["b"].fingerprint != other["b"].fingerprint


def test_an_input_from_outside_counts_by_content_not_by_place(tmp_path: Path) -> None:
    marks = []
    for name, text in (("here", "red"), ("there", "red"), ("here", "blue")):
        words = tmp_path / name
        words.write_text(text)
        step = replace(make_step("a"), inputs={"text": words})
        prepared = make_execution(tmp_path / "run", [step]).prepared["a"]
        assert prepared.inputs["text"] == words
        marks.append(prepared.fingerprint)
    assert marks[0] == marks[1] != marks[2]


def test_a_missing_input_from_outside_is_named(tmp_path: Path) -> None:
    step = replace(make_step("a"), inputs={"more:0": tmp_path / "gone"})
    with pytest.raises(MissingFileError, match=r"gone: no such file or folder \(a\.more:0\)"):
        make_execution(tmp_path, [step])


def test_an_output_may_have_a_file_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Outputs:
        model: Path
        losses: Path = Path("losses.jsonl")

    monkeypatch.setattr(tests.fake_stage, "Outputs", Outputs)
    prepared = make_execution(tmp_path, [make_step("a")]).prepared["a"]
    assert {name: path.name for name, path in prepared.outputs.items()} == {
        "model": "model",
        "losses": "losses.jsonl",
    }


def test_company_is_who_is_neither_before_nor_after() -> None:
    plan = Plan(
        (
            make_step("a"),
            make_step("b", takes="a"),
            make_step("c", takes="a"),
            replace(make_step("d", takes="b"), after=("c",)),
        )
    )
    assert [name for name in plan.names if plan.has_company(name)] == ["b", "c"]
    assert plan.ancestors("d") == {"a", "b", "c"}


@given(texts=st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_another_config_is_another_folder(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    folders = {
        make_execution(folder, [make_step("a", text=text)]).prepared["a"].folder for text in texts
    }
    assert len(folders) == 2


def test_a_change_travels_down_the_plan(tmp_path: Path) -> None:
    one = make_execution(tmp_path, [make_step("a", text="x"), make_step("b", takes="a")])
    two = make_execution(tmp_path, [make_step("a", text="y"), make_step("b", takes="a")])
    assert one.prepared["b"].fingerprint != two.prepared["b"].fingerprint


def test_the_version_of_the_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make_execution(tmp_path, [make_step("a")]).prepared["a"].fingerprint
    monkeypatch.setattr(tests.fake_stage, "VERSION", 2)
    assert make_execution(tmp_path, [make_step("a")]).prepared["a"].fingerprint != old


def test_outside_files_count_by_content_not_by_place(tmp_path: Path) -> None:
    marks = []
    for folder, text in (("here", "red"), ("there", "red"), ("here", "blue")):
        words = tmp_path / folder / "words.txt"
        words.parent.mkdir(exist_ok=True)
        words.write_text(text)
        execution = make_execution(tmp_path / f"run-{folder}", [make_step("a", words=words)])
        marks.append(execution.prepared["a"].fingerprint)
    assert marks[0] == marks[1] != marks[2]


def test_a_folder_counts_with_names_and_contents(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"1")
    first = DigestBook(tmp_path / "book.json").digest(photos, "photos")
    (photos / "a.jpg").rename(photos / "b.jpg")
    assert DigestBook(tmp_path / "book.json").digest(photos, "photos") != first


def test_a_folder_counts_whatever_lies_in_it(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / os.fsdecode(b"\xff.jpg")).write_bytes(b"1")
    os.mkfifo(photos / "pipe.jpg")
    first = DigestBook(tmp_path / "book.json")
    mark = first.digest(photos, "photos")
    first.save()
    assert DigestBook(tmp_path / "book.json").digest(photos, "photos") == mark
    (photos / os.fsdecode(b"\xff.jpg")).rename(photos / os.fsdecode(b"\xfe.jpg"))
    assert DigestBook(tmp_path / "book.json").digest(photos, "photos") != mark


def test_a_missing_outside_file_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone\.txt: no such file or folder \(a\.words\)"):
        make_execution(tmp_path, [make_step("a", words=tmp_path / "gone.txt")])


def test_the_plan_says_why_a_step_will_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.builders_flows import python_environment

    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
    first = make_execution(tmp_path, [make_step("a", text="x")])
    assert first.prepared["a"].why == "never ran"
    first.run_step("a")
    changed = make_execution(tmp_path, [make_step("a", text="y")])
    assert changed.prepared["a"].why == 'config.text "x" -> "y"'
    changed.prepared["a"].folder.mkdir()
    (changed.prepared["a"].folder / "checkpoint").touch()
    assert make_execution(tmp_path, [make_step("a", text="y")]).prepared["a"].why == (
        "was interrupted: goes on where it stopped"
    )
