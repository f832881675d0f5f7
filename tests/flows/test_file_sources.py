"""Weights, vocabularies and dictionaries that a configuration names by where they lie elsewhere."""

import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from flows.commands.trained import config_of
from flows.config import as_yaml, read_config
from flows.errors import ConfigError
from flows.file_sources import already_here, told_to, with_local_files
from flows.pipeline import plan_of
from storage import downloads
from storage.errors import MissingFileError, SourceError
from storage.sources import RemoteSource
from tests.command_line import oscar

DEMO = Path("demo.yaml")
WORDS = b'{"car": "\xe8\xbd\xa6"}'
URL = f"https://127.0.0.1:1/words.json#sha256={sha256(WORDS).hexdigest()}"
GIVEN = (
    "vocabulary=hf://owner/name/vocab.txt@v1",
    "detector_weights=hf://owner/detector",
    f"translate_tags.dictionary={URL}",
    "translate_texts.model=hf://owner/translator",
    "pretrain.start=hf://owner/bert",
    "tasks.vqa.start=hf://owner/other",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which everything was put by hand: nobody is asked."""
    monkeypatch.setenv("OSCAR_FLOW_CACHE", str(tmp_path / "cache"))
    cache = tmp_path / "cache"
    for name in ("detector", "translator", "bert", "other"):
        (cache / "hf" / "owner" / name).mkdir(parents=True)
        (cache / "hf" / "owner" / name / "config.json").write_bytes(b"{}")
    (cache / "hf" / "owner" / "name@v1").mkdir()
    (cache / "hf" / "owner" / "name@v1" / "vocab.txt").write_bytes(b"[PAD]\n")
    words = cache / "files" / sha256(WORDS).hexdigest() / "words.json"
    words.parent.mkdir(parents=True)
    words.write_bytes(WORDS)
    return cache


def test_the_configuration_keeps_the_name_and_the_plan_the_place(cache: Path) -> None:
    config = read_config(DEMO, GIVEN)
    assert config.vocabulary == RemoteSource("hf://owner/name/vocab.txt@v1")
    plan = plan_of(config)
    owner = cache / "hf" / "owner"
    train = plan.step("pretrain")
    assert train.config.vocabulary == owner / "name@v1" / "vocab.txt"
    assert train.inputs["start"] == owner / "bert"
    assert plan.step("vqa_train").inputs["start"] == owner / "other"
    assert plan.step("captioning_train").inputs["start"] == "pretrain.model"
    assert plan.step("detect").inputs["detector"] == owner / "detector"
    assert plan.step("translate_tags").config.dictionary.read_bytes() == WORDS
    assert plan.step("translate_texts").config.model == owner / "translator"


def test_a_saved_configuration_reads_as_itself(cache: Path, tmp_path: Path) -> None:
    config = read_config(DEMO, GIVEN)
    path = tmp_path / "config.yaml"
    path.write_text(as_yaml(config), encoding="utf-8")
    assert "hf://owner/name/vocab.txt@v1" in path.read_text(encoding="utf-8")
    assert read_config(path) == config
    (tmp_path / "run").mkdir()
    path.rename(tmp_path / "run" / "config.yaml")
    assert config_of(tmp_path / "run") == with_local_files(config)


def test_texts_are_translated_before_anything_learns_from_them(cache: Path) -> None:
    plan = plan_of(read_config(DEMO, ["translate_texts.model=hf://owner/translator"]))
    for name in ("pretrain", "vqa_train", "vqa_predict", "vqa_score"):
        assert plan.step(name).inputs["annotations"] == "translate_texts.annotations"
    assert plan.step("train_detector").inputs["annotations"] == "collect_annotations.annotations"
    alone = {name for name in plan.names if not plan.has_company(name)}
    assert {"translate_texts", "train_detector", "detect", "pretrain"} <= alone
    assert "translate_texts" not in plan_of(read_config(DEMO)).names


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("vocabulary=http://host/vocab.txt", "vocabulary: http://host/vocab.txt: name a local"),
        ("detector_weights=hf://owner", "detector_weights: hf://owner: write hf://"),
        ("vocabulary=3", "vocabulary: must be a path, hf://... or https://..., not 3"),
        ("pretrain.start=https://h/x", "pretrain.start: https://h/x: say which bytes"),
        ("translate_tags.dictionary=ftp://a:secret@b/c", "without password"),
    ],
)
def test_a_source_that_names_nothing_is_found_where_it_is_written(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_config(DEMO, [setting])
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_local_start_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"gone: no such file or folder \(start of pretrain"):
        plan_of(read_config(DEMO, [f"pretrain.start={tmp_path}/gone"]))


def test_a_plan_fetches_nothing(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    wanted = "hf://owner/elsewhere/vocab.txt"
    with pytest.raises(SourceError, match="not fetched yet; do it by: oscar-flow fetch"):
        plan_of(read_config(DEMO, [f"vocabulary={wanted}"]), already_here)
    said = oscar(capsys, monkeypatch, "fetch", URL)
    assert said.out.strip().endswith("/words.json")
    assert already_here(RemoteSource(URL)).read_bytes() == WORDS


def test_what_needs_nothing_from_elsewhere_stays_the_same_object() -> None:
    config = read_config(DEMO)
    assert with_local_files(config) is config
    changed = replace(config, vocabulary=RemoteSource("hf://owner/name/vocab.txt"))
    assert with_local_files(changed, lambda source: Path("here")).vocabulary == Path("here")


def test_a_host_that_does_not_answer_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_WAIT_SECONDS", 0.01)
    with pytest.raises(SourceError, match=r"no answer from 127\.0\.0\.1:1"):
        told_to(sys.stdout)(RemoteSource(f"https://127.0.0.1:1/x#sha256={'0' * 64}"))


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("", 0, ""),
        (f"#sha256={sha256(WORDS).hexdigest()}", 0, ""),
        ("#sha256=00", 2, "64 hexadecimal digits"),
        (f"#sha256={'0' * 64}", 2, "wanted is 000"),
        ("2", 2, "no such file or folder; what lies elsewhere begins with hf://"),
        (f"2#sha256={'0' * 64}", 2, "words2: no such file"),
    ],
)
def test_a_local_file_is_not_fetched_but_must_be_there(
    ending: str,
    status: int,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "words"
    path.write_bytes(WORDS)
    said = oscar(capsys, monkeypatch, "fetch", f"{path}{ending}")
    assert (said.status, said.out) == (status, "" if status else f"{path}\n")
    assert told in said.err
