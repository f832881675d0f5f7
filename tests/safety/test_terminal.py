"""Names of others are shown as they are: they colour nothing, hide nothing, break no table."""

import io
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from flows.commands.show import plan_table
from flows.commands.status import RunStatus, StepStatus
from flows.plan import Plan
from flows.run_folder import RunFolder
from flows.schedule import run_plan
from storage.images import list_images
from tests.builders_flows import make_execution, make_step


@pytest.mark.parametrize(
    "name", ["a\x1b[2Jb", "a\nb", "a\rb", "a\x9b31mb", "a\u202egpj.b", "\x1b]0;title\x07"]
)
def test_a_name_that_would_steer_a_terminal_is_set_aside(name: str, tmp_path: Path) -> None:
    for stem in (name, "good"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{stem}.png")
    photos, dropped = list_images(tmp_path, "mine")
    assert [photo.image_id for photo in photos] == ["mine/good"]
    [entry] = dropped
    assert entry.reason == "name-unprintable"
    assert entry.detail.isprintable()


@pytest.mark.parametrize("name", ["\u72d7", "a b", "a\u3000b", "e\u0301", "[red]", "\U0001f415"])
def test_other_names_are_fine(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    photos, dropped = list_images(tmp_path, "")
    assert [photo.image_id for photo in photos] == [name]
    assert dropped == []


def shown(table: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200, soft_wrap=True).print(table)
    return stream.getvalue()


def test_a_table_shows_brackets_as_they_are(tmp_path: Path) -> None:
    run_plan(make_execution(tmp_path, [make_step("first")]))
    other = Plan((make_step("first", text="[/b][red]x"),))
    assert "[/b][red]x" in shown(plan_table(other, tmp_path))


def test_the_status_shows_brackets_as_they_are(tmp_path: Path) -> None:
    step = StepStatus(step="first", state="failed", said="[/b][red]x")
    status = RunStatus(run=RunFolder(tmp_path), steps=[step], holder="")
    assert "[/b][red]x" in shown(status.shown())
