"""The README's commands exist, take the options shown, and say what is shown; its links lead on."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from flows.config import read_config
from tests.builders_flows import PYTHON, ROOT
from tests.command_line import oscar, oscar_child
from tests.locations import data_dir

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/detector.md",
        "docs/fast.md",
        "docs/formats.md",
        "docs/operations.md",
        "docs/training.md",
    )
]


def shell_lines() -> list[str]:
    """Every command of the README's shell blocks, without comments and prompts."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [shlex.join(words) for words in lines if words]


def commands(program: str) -> list[list[str]]:
    """Arguments of every call of one program."""
    split = [shlex.split(line) for line in shell_lines()]
    found = [words[1:] for words in split if words[0] == program]
    assert found, f"the README shows no {program}"
    return found


def shown_after(command: str) -> str:
    """The block of output that follows the block with a command."""
    after = README[README.index(command) :]
    return after[after.index("```text\n") + len("```text\n") :].split("```")[0]


def test_every_command_is_one_that_is_checked_here() -> None:
    first_words = {shlex.split(line)[0] for line in shell_lines()}
    assert first_words <= {"make", "oscar-flow", "python", "printf", "ls", "mkdir", "cp"}


def test_make_knows_its_targets() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = {word for words in commands("make") for word in words if "=" not in word}
    assert {"demo", "test", "oracle"} <= named <= set(targets)


@pytest.mark.parametrize("words", commands("oscar-flow"), ids=" ".join)
def test_a_command_takes_the_options_shown(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = oscar(capsys, monkeypatch, words[0], "--help")
    assert said.status == 0
    for word in words:
        if word.startswith("--"):
            assert f" {word.partition('=')[0]} " in said.out


PLANNED = [w for w in commands("oscar-flow") if w[0] in ("plan", "run") and "--dry-run" not in w]


@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
def test_a_configuration_shown_makes_a_plan(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if any("data.root=" in word for word in words):
        words = [re.sub(r"data\.root=.*", f"data.root={data_dir('real')}", word) for word in words]
    monkeypatch.chdir(tmp_path)
    write_own_configuration(tmp_path)
    said = oscar(capsys, monkeypatch, "plan", *words[1:])
    assert said.err == ""
    assert "never ran" in said.out


@pytest.mark.parametrize(
    "words", [w for w in commands("oscar-flow") if "--dry-run" in w], ids=" ".join
)
def test_a_dry_run_shown_says_what_is_to_be_filled_in(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = oscar(capsys, monkeypatch, *words)
    assert said.status == 2
    assert "--set data.root=FOLDER" in said.err


def write_own_configuration(folder: Path) -> None:
    """The YAML file that the README shows, over photos and annotations that are there."""
    shown = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) == 1
    name, text = shown[0]
    own = folder / "pictures"
    (own / "photos").mkdir(parents=True)
    for file in re.findall(r"\S+\.json", text):
        (own / file).write_text("{}")
    text, times = re.subn(r"root: \S+", f"root: {own}", text)
    assert times == 1
    (folder / name).write_text(text)


def test_labels_become_the_words_shown(tmp_path: Path) -> None:
    text = commands("printf")[0][0].replace("\\n", "\n")
    said = oscar_child(["translate", "-"], text=text, folder=tmp_path)
    assert said.status == 0, said.err
    assert said.out.split() == shown_after("oscar-flow translate labels.txt").split()


def test_benchmarks_are_listed() -> None:
    listed = subprocess.run(
        [PYTHON, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    names -= {"figure", "many_photos"}
    assert {line.split()[0] for line in listed.stdout.splitlines()} == names


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    nearby = [link for link in links if "://" not in link]
    assert [link for link in nearby if not (document.parent / link).exists()] == []


def test_configurations_of_the_training_guide_are_sound(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```yaml\n# (\w+\.yaml)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for name, content in shown:
        (tmp_path / name).write_text(content, encoding="utf-8")
        read_config(tmp_path / name)


def test_no_line_waits_to_be_written() -> None:
    for document in DOCUMENTS:
        assert "@@" not in document.read_text(encoding="utf-8")
