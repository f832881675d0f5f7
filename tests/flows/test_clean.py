"""What of a run folder nobody needs any more."""

import json
import os
from pathlib import Path

import pytest

from flows.commands.clean import cleanable, free, in_bytes
from flows.errors import FlowError, RunLockedError
from flows.history import record
from flows.identity import IDENTITY
from flows.models import Registry
from flows.run_folder import RunFolder, locked
from storage.artifacts import write_done


def make_run(folder: Path) -> RunFolder:
    """A run whose step `train` was made anew three times; the latest end is number 3."""
    run = RunFolder(folder)
    (folder / "config.yaml").write_text("seed: 1\n")
    for number in (1, 2, 3):
        step = make_folder(folder, number)
        run.steps.write_text(json.dumps({"train": step.name}))
        record(run, "seed: 1\n", {"train": step.name}, {"cider": number / 10})
        for section in ("logs", "attempts"):
            (folder / section).mkdir(exist_ok=True)
            (folder / section / f"{step.name}.jsonl").write_text("{}\n")
    return run


def make_folder(run: Path, number: int) -> Path:
    step = run / f"train-{number:012x}"
    step.mkdir()
    (step / IDENTITY).write_text("{}")
    (step / "model").write_bytes(bytes(1000))
    write_done(step, "0" * 64, {})
    return step


def names(run: RunFolder) -> list[str]:
    return sorted(str(item.path.relative_to(run.path)) for item in cleanable(run.path).items)


def test_older_folders_and_their_records_go(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    old = "train-000000000001"
    assert names(run) == [f"attempts/{old}.jsonl", f"logs/{old}.jsonl", old]
    said = free(tmp_path, cleanable(tmp_path))
    assert said.endswith("in 3 folders and files")
    assert sorted(path.name for path in tmp_path.glob("train-*")) == [
        "train-000000000002",
        "train-000000000003",
    ]
    assert names(run) == []


def test_folders_that_are_no_step_stay(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "mine-0123456789ab").mkdir()
    (tmp_path / "mine-0123456789ab" / "notes.txt").write_text("keep me")
    (tmp_path / "models" / "0001").mkdir(parents=True)
    (tmp_path / "link-0123456789ab").symlink_to(tmp_path / "models")
    assert not [name for name in names(run) if name.startswith(("mine", "models", "link"))]


def test_what_a_model_shares_is_not_counted(tmp_path: Path) -> None:
    make_run(tmp_path)
    old = tmp_path / "train-000000000001"
    (tmp_path / "models").mkdir()
    os.link(old / "model", tmp_path / "models" / "model")
    [size] = [item.bytes for item in cleanable(tmp_path).items if item.path == old]
    assert size < 1000
    free(tmp_path, cleanable(tmp_path))
    assert (tmp_path / "models" / "model").stat().st_size == 1000


def test_leftovers_of_writes_and_what_was_set_aside_go(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (tmp_path / "train-000000000003" / ".model.1-2.partial").write_bytes(b"half")
    (tmp_path / "discarded" / "20260101T000000Z").mkdir(parents=True)
    free(tmp_path, cleanable(tmp_path))
    assert names(run) == []
    assert not (tmp_path / "discarded").exists()


def test_a_folder_that_the_configuration_names_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.config.write_text(f"detector_weights: {tmp_path}/train-000000000001/model\n")
    assert names(run) == []


def test_the_list_of_photos_that_was_judged_last_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shelf = tmp_path / "state" / "outside"
    shelf.mkdir(parents=True)
    for digest in ("a" * 64, "b" * 64):
        (shelf / f"{digest}.names").write_text("")
    Registry(run).settle("0001", {"photos": {"0": "a" * 64}})
    assert [name for name in names(run) if "outside" in name] == [f"state/outside/{'b' * 64}.names"]


def test_while_a_step_is_not_done_its_newest_finished_folder_stays(tmp_path: Path) -> None:
    """It may copy from it."""
    run = make_run(tmp_path)
    for entry in sorted((tmp_path / "history").glob("*.json"))[1:]:
        entry.unlink()
    (tmp_path / "train-000000000003" / "DONE.json").unlink()
    os.utime(tmp_path / "train-000000000002" / "DONE.json", (2e9, 2e9))
    make_folder(tmp_path, 9)
    assert [name for name in names(run) if name.startswith("train")] == ["train-000000000009"]


def test_only_what_was_shown_is_deleted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shown = cleanable(tmp_path)
    (tmp_path / "discarded" / "later").mkdir(parents=True)
    free(tmp_path, shown)
    assert names(run) == ["discarded/later"]


def test_a_run_that_somebody_works_on_is_left_alone(tmp_path: Path) -> None:
    make_run(tmp_path)
    found = cleanable(tmp_path)
    with locked(RunFolder(tmp_path)), pytest.raises(RunLockedError):
        free(tmp_path, found)
    assert (tmp_path / "train-000000000001" / "model").exists()


def test_without_steps_nothing_is_judged(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="no run here; name the folder of a run"):
        cleanable(tmp_path)
    make_run(tmp_path)
    (tmp_path / "steps.json").write_text("{")
    with pytest.raises(FlowError, match=r"steps\.json: .*; run the run's command again first"):
        cleanable(tmp_path)


def test_sizes_are_readable() -> None:
    assert [in_bytes(n) for n in (0, 999, 1500, 150_000, 2_500_000, 3_000_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "150 kB",
        "2.5 MB",
        "3.00 GB",
    ]
