"""Versions of a run's models: whole or not there, one current, every way back."""

import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from flows.commands.models import models_table, promote, rollback
from flows.errors import MissingModelError
from flows.models import Registry
from flows.register import register_finished
from flows.run_folder import RunFolder
from storage.artifacts import damaged_files, read_done
from tests.builders_models import METRIC, FinishedRuns, add_photos, flip, make_config


def make_versions(out: Path, number: int) -> Registry:
    """A run folder in which that many different runs were registered and promoted in turn."""
    registry = Registry(RunFolder(out))
    runs = FinishedRuns(*(0.1 * at for at in range(1, number + 1)))
    for seed in range(number):
        runs(make_config(out / "data", seed=seed), out)
        registry.promote(register_finished(registry).name, why="test")
    return registry


def current(registry: Registry) -> str:
    version = registry.current()
    return "" if version is None else version.name


def test_a_version_holds_detector_models_configuration_lineage_and_card(tmp_path: Path) -> None:
    version = make_versions(tmp_path, 1).versions()[0]
    names = {path.relative_to(version.folder).as_posix() for path in version.folder.rglob("*.*")}
    assert names == {
        "train_detector/detector.json",
        "vqa_train/model.safetensors",
        "config.yaml",
        "lineage.json",
        "README.md",
        "DONE.json",
    }
    done = read_done(version.folder)
    assert done is not None
    assert damaged_files(version.folder, done) == []
    assert version.lineage.metrics[METRIC] == pytest.approx(0.1)
    assert version.lineage.models["vqa_train"].stage == "train"
    assert version.lineage.code["oscar-flow"]


def test_weights_are_kept_when_the_step_that_made_them_goes(tmp_path: Path) -> None:
    version = make_versions(tmp_path, 1).versions()[0]
    made = next(tmp_path.glob("vqa_train-*/model/model.safetensors"))
    kept = version.folder / "vqa_train" / "model.safetensors"
    assert kept.stat().st_ino == made.stat().st_ino
    made.unlink()
    assert "null" in kept.read_text() or "None" in kept.read_text()


def test_the_card_is_one_that_the_hub_can_read(tmp_path: Path) -> None:
    version = make_versions(tmp_path, 1).versions()[0]
    card = ModelCard((version.folder / "README.md").read_text())
    assert card.data.license == "other"
    assert [each.metric_type for each in card.data.eval_results or []] == [METRIC]
    assert f"| {METRIC} | 0.1 |  | 0.1 |" in card.text


def test_the_same_models_are_one_version(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 1)
    assert register_finished(registry).name == "0001"
    assert len(registry.versions()) == 1
    assert [each.event for each in registry.history()] == ["registered", "promoted"]


def test_a_run_that_is_not_finished_is_not_registered(tmp_path: Path) -> None:
    make_versions(tmp_path, 1)
    (next(tmp_path.glob("vqa_train-*")) / "DONE.json").unlink()
    with pytest.raises(MissingModelError, match="vqa_train is not finished; oscar-flow resume"):
        register_finished(Registry(RunFolder(tmp_path)))
    with pytest.raises(MissingModelError, match="no run here"):
        register_finished(Registry(RunFolder(tmp_path / "nowhere")))


def test_rollback_goes_back_step_by_step(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 3)
    assert current(registry) == "0003"
    assert os.readlink(tmp_path / "models" / "current") == "0003"
    assert registry.rollback().name == "0002"
    assert registry.rollback().name == "0001"
    with pytest.raises(MissingModelError, match="no version was current before"):
        registry.rollback()
    assert current(registry) == "0001"
    registry.promote("3", why="test")
    assert registry.rollback().name == "0001"


def test_rollback_to_a_named_version(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 3)
    assert registry.rollback("1").name == "0001"
    with pytest.raises(MissingModelError, match="no version '7'; there are 0001, 0002, 0003"):
        registry.rollback("7")
    assert registry.history()[-1].previous == "0003"


def test_a_crash_between_link_and_history_loses_no_way_back(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 3)
    history = tmp_path / "models" / "history.jsonl"
    lines = history.read_bytes().splitlines(keepends=True)
    history.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # 0003 promoted, not yet noted
    assert registry.rollback().name == "0002"
    assert [each.event for each in registry.history()][-2:] == ["registered", "rolled back"]
    registry.promote("3", why="test")
    (tmp_path / "models" / "current").unlink()
    (tmp_path / "models" / "current").symlink_to("0002")  # rolled back, not yet noted
    assert registry.rollback().name == "0001"


def test_a_damaged_version_is_not_made_current(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 2)
    weights = tmp_path / "models" / "0001" / "vqa_train" / "model.safetensors"
    flip(weights)
    with pytest.raises(MissingModelError, match=r"vqa_train/model\.safetensors: damaged"):
        registry.rollback()
    assert current(registry) == "0002"


def test_a_spoiled_model_is_not_registered(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 1)
    FinishedRuns(0.5)(make_config(tmp_path / "data", seed=7), tmp_path)
    folders = json.loads((tmp_path / "steps.json").read_text())
    weights = tmp_path / folders["vqa_train"] / "model" / "model.safetensors"
    flip(weights)
    for refused in (lambda: register_finished(registry), lambda: promote(tmp_path, None)):
        with pytest.raises(MissingModelError) as error:
            refused()
        assert str(error.value).startswith(f"{weights}: bytes changed")
        assert str(error.value).endswith(f"oscar-flow resume {tmp_path} --from vqa_train")
    assert [each.name for each in registry.versions()] == ["0001"]
    flip(weights)
    assert register_finished(registry).name == "0002"


def test_a_given_detector_that_is_spoiled_is_not_registered(tmp_path: Path) -> None:
    make_versions(tmp_path / "other", 1)
    detector = tmp_path / "other" / "models" / "0001" / "train_detector"
    FinishedRuns(0.5)(make_config(tmp_path / "data", detector_weights=detector), tmp_path)
    flip(detector / "detector.json")
    registry = Registry(RunFolder(tmp_path))
    with pytest.raises(MissingModelError, match=f"models rollback {tmp_path}/other$"):
        register_finished(registry)
    (detector / "detector.json").unlink()
    with pytest.raises(MissingModelError, match=r"0001: no longer what DONE\.json says"):
        register_finished(registry)
    assert registry.versions() == []


def test_a_spoiled_version_is_no_answer_to_the_same_models_made_again(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 1)
    kept = tmp_path / "models" / "0001" / "vqa_train" / "model.safetensors"
    content = kept.read_bytes()
    kept.unlink()  # no longer one file with the step's
    kept.write_bytes(content)
    flip(kept)
    assert register_finished(registry).name == "0002"
    assert promote(tmp_path, None).startswith("version 0002 is current")


def test_folders_of_a_version_are_on_disk_before_it_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def appear(source: Path, target: Path) -> None:
        if Path(target).parent.name == "models":
            assert {f"{source}/{step}" for step in ("train_detector", "vqa_train")} <= set(synced)
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", appear)
    assert make_versions(tmp_path, 1).versions()[0].name == "0001"


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_current_version_that_is_not_whole_can_be_left(tmp_path: Path, is_gone: bool) -> None:
    registry = make_versions(tmp_path, 3)
    registry.rollback("2")
    current_folder = tmp_path / "models" / "0002"
    if is_gone:
        shutil.rmtree(current_folder)
    else:
        (current_folder / "vqa_train" / "model.safetensors").write_text("")
    with pytest.raises(MissingModelError) as error:
        registry.in_use()
    assert str(error.value) == (
        f"{current_folder}: current, and not whole; oscar-flow models rollback {tmp_path}"
    )
    assert registry.rollback().name == "0001"
    assert registry.history()[-1].previous == "0002"


def test_an_only_version_that_is_not_whole_is_registered_anew(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 1)
    (tmp_path / "models" / "0001" / "vqa_train" / "model.safetensors").unlink()
    with pytest.raises(MissingModelError, match=f"oscar-flow models promote {tmp_path}$"):
        registry.in_use()
    assert promote(tmp_path, None).startswith("version 0002 is current")
    assert registry.in_use() is not None


def test_what_a_crash_left_half_written_is_no_version(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 1)
    (tmp_path / "models" / ".unfinished-0002" / "vqa_train").mkdir(parents=True)
    (tmp_path / "models" / "0009").mkdir()
    assert [each.name for each in registry.versions()] == ["0001"]
    FinishedRuns(0.5)(make_config(tmp_path / "data", seed=7), tmp_path)
    assert register_finished(registry).name == "0010"
    assert not (tmp_path / "models" / ".unfinished-0002").exists()


def test_old_versions_go_but_never_those_that_are_needed(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 5)
    registry.rollback("2")  # current 0002, before it 0001, newest 0005
    assert registry.prune(1, needed=f"warm_start: {tmp_path}/models/0003") == ["0004"]
    assert [each.name for each in registry.versions()] == ["0001", "0002", "0003", "0005"]
    assert registry.history()[-1].event == "removed"


def test_the_version_judged_last_stays(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 5)
    registry.settle("0002", {"total": "of its data"})
    assert registry.prune(1) == ["0001", "0003"]
    judged = registry.judged()
    assert judged is not None
    assert (judged.version, judged.data) == ("0002", {"total": "of its data"})


def test_without_a_note_the_newest_that_was_decided_about_counts(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 2)
    note = tmp_path / "models" / "judged.json"
    for text in (None, "{cut by a cra", "[]", '{"version": "0009", "data": {}}'):
        if text is not None:
            note.write_text(text)
        judged = registry.judged()
        assert judged is not None
        assert (judged.version, judged.data) == ("0002", registry.version("2").lineage.data)


def test_a_number_is_not_used_again(tmp_path: Path) -> None:
    registry = make_versions(tmp_path, 4)
    registry.rollback("1")
    registry.prune(1)
    assert [each.name for each in registry.versions()] == ["0001", "0004"]
    FinishedRuns(0.9)(make_config(tmp_path / "data", seed=9), tmp_path)
    assert register_finished(registry).name == "0005"


def test_commands_say_what_is_current_and_where(tmp_path: Path) -> None:
    add_photos(tmp_path / "data", "a")
    FinishedRuns(0.25)(make_config(tmp_path / "data"), tmp_path)
    with pytest.raises(MissingModelError, match="no version yet; oscar-flow models promote"):
        models_table(tmp_path)
    said = promote(tmp_path, None)
    assert said == f"version 0001 is current: {tmp_path}/models/0001"
    FinishedRuns(0.5)(make_config(tmp_path / "data", seed=1), tmp_path)
    promote(tmp_path, None)
    lines = _table(tmp_path)
    assert lines[0].split() == ["version", "made", "from", METRIC, "state"]
    assert [line.split()[-1] for line in lines[1:]] == ["previous", "current"]
    assert "0.25" in lines[1]
    assert rollback(tmp_path, None).startswith("version 0001 is current again: ")
    assert [line.split()[-1] for line in _table(tmp_path)[1:]] == ["current", "past"]


def test_lineage_names_no_place(tmp_path: Path) -> None:
    text = (make_versions(tmp_path, 1).versions()[0].folder / "lineage.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["version"] == "0001"


def _table(run: Path) -> list[str]:
    console = Console(width=160)
    with console.capture() as told:
        console.print(models_table(run))
    return [line.strip() for line in told.get().splitlines() if line.strip()]
