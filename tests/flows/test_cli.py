"""The command line: quick help, one line for every mistake, never a traceback."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli import _tell
from flows.commands.run import Finished
from flows.run_folder import RunFolder
from tests.builders_storage import many_regions, write_regions
from tests.command_line import Said, oscar, oscar_child

Command = Callable[..., Said]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return lambda *arguments: oscar(capsys, monkeypatch, *arguments)


def test_help_starts_at_once_and_names_every_command() -> None:
    before = _processor_seconds()
    said = oscar_child(["--help"])
    assert _processor_seconds() - before < 0.5  # wall time would judge the machine's other work
    for name in ("demo", "run", "plan", "status", "report", "shard", "translate", "detect"):
        assert f" {name} " in said.out
    assert said.status == 0


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runn"], "error: No such command 'runn'. Did you mean 'run'"),
        (["plan"], "error: Missing argument 'CONFIG'"),
        (["demo", "--sed", "3"], "error: No such option: --sed"),
        (["demo", "--seed", "x"], "error: Invalid value for '--seed'"),
        (["plan", "nothere.yaml"], "error: nothere.yaml: no such file; shipped with the package:"),
        (["run", "demo", "--set", "seed"], "error: --set seed: write KEY=VALUE"),
        (["status", "nothere"], "error: nothere: no run here"),
        (["report", "nothere"], "error: nothere: no run here"),
        (["shard", "nothere.parquet"], "error: ./nothere.parquet: no such file"),
        (["shard", "nothere"], "error: nothere: no shards and no manifest.json here"),
        (["translate", "nothere.txt"], "error: nothere.txt: No such file or directory"),
        (["detect", "nothere.jpg"], "error: name a trained run with --run DIR"),
        (["detect", "x.jpg", "--run", "nothere"], "error: x.jpg: No such file"),
        (["caption", "x.jpg", "--run", "nothere"], "error: nothere: no run here"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = command(*arguments)
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert said.status == 2


def test_a_damaged_shard_is_shown_and_named(command: Command, tmp_path: Path) -> None:
    write_regions(tmp_path, many_regions(9))
    shard = tmp_path / "regions-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-9])
    said = command("shard", str(tmp_path))
    assert said.status == 2
    assert "rows      9 in 3 shards" in said.out
    assert said.err.startswith(f"error: {shard}: ")


@pytest.mark.parametrize(
    ("function", "arguments", "line"),
    [
        ("run.run", ["demo"], "error: stopped; run the same command again to go on\n"),
        ("calibrate.calibrate_detector", ["calibrate", "detector", "photos"], "error: stopped\n"),
    ],
)
def test_only_what_goes_on_says_so_when_it_is_stopped(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    arguments: list[str],
    line: str,
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"flows.commands.{function}", stopped)
    said = command(*arguments)
    assert (said.status, said.err) == (130, line)


def test_a_run_without_tasks_ends_without_an_empty_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "metrics.json").write_text('{"_versions": {}}')
    _tell(Finished(run=RunFolder(tmp_path), results={}, folders={}), tmp_path)
    assert "features of another" not in capsys.readouterr().out
    (tmp_path / "metrics.json").write_text('{"vqa.accuracy": 0.5, "_versions": {}}')
    _tell(Finished(run=RunFolder(tmp_path), results={}, folders={}), tmp_path)
    assert "features of another" in capsys.readouterr().out


def test_every_mistake_of_a_configuration_has_its_line(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "sed: 3\n"
        "data:\n"
        "  images: [{path: photos}]\n"
        "  sources: [{reader: coco_caption, path: a.json}]\n"
        "tasks:\n"
        "  vqua: {}\n"
    )
    said = command("plan", str(path))
    assert said.status == 2
    assert [line.replace(f"{tmp_path}/", "") for line in said.err.splitlines()] == [
        "error: run.yaml:1: sed: unknown key; did you mean 'seed'?",
        "error: run.yaml:4: data.sources.0.reader: unknown reader; did you mean 'coco_captions'?",
        "error: run.yaml:6: tasks.vqua: unknown key; did you mean 'vqa'?",
    ]


def test_labels_become_words_and_coverage() -> None:
    said = oscar_child(["translate", "--json", "-"], text="red car\n\numbrella\nqqq\n")
    told = json.loads(said.out)
    assert [each["english"] for each in told["tags"]] == ["red car", "umbrella", "qqq"]
    assert set(told["tags"][0]) == {"english", "chinese", "source"}
    assert told["coverage"]["covered"] == 2


def test_labels_come_as_arguments_too(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("glass\n", encoding="utf-8")
    said = command("translate", "--kind", "attribute", "--json", "orange", str(path), "a/b")
    assert [(each["english"], each["chinese"]) for each in json.loads(said.out)["tags"]] == [
        ("orange", "橙色"),
        ("glass", "玻璃"),
        ("a/b", "a/b"),
    ]


def test_labels_that_are_not_text_are_one_line(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("汽车".encode("gbk"))
    said = command("translate", str(path))
    assert said.status == 2
    assert said.err.startswith(f"error: {path}: line 1: byte 0 is not UTF-8")


def test_no_label_at_all_is_said() -> None:
    said = oscar_child(["translate", "--json"], text="\n")
    assert (said.status, said.err) == (0, "no label given: nothing was translated\n")
    found = json.loads(said.out)
    assert (found["tags"], found["coverage"]["share"]) == ([], None)
