"""New data -> run -> register -> judge -> promote or keep, without Prefect."""

from pathlib import Path

import pytest

from flows.commands.models import promote
from flows.errors import FlowError, MissingModelError
from flows.models import Registry
from flows.retrain import KEPT, NOTHING_NEW, PROMOTED, Outcome, check_data, retrain
from flows.retrain_settings import Bound, Retraining
from flows.run_folder import RunFolder
from tests.builders_models import METRIC, FinishedRuns, add_photos, make_config

GATE = {METRIC: Bound(at_least=0.3)}


def learn(tmp_path: Path, run: FinishedRuns, *, force: bool = False, **settings) -> Outcome:
    """One retraining in a folder of its own beside its data."""
    config = make_config(tmp_path / "data", Retraining(**settings))
    return retrain(config, tmp_path / "run", run=run, force=force)


def test_the_first_look_finds_all_of_it_new(tmp_path: Path) -> None:
    config = make_config(tmp_path / "data")
    add_photos(tmp_path / "data", "a", "b")
    check = check_data(config, tmp_path / "run")
    assert check.has_news
    assert str(check) == "no version yet, 2 photos"


def test_without_new_data_nothing_runs(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    add_photos(tmp_path / "data", "a")
    assert learn(tmp_path, run).state == PROMOTED
    assert [learn(tmp_path, run).state for _ in range(3)] == [NOTHING_NEW] * 3
    assert len(run.configs) == 1


def test_new_photos_are_counted_and_learned_from(tmp_path: Path) -> None:
    run = FinishedRuns(0.5, 0.6)
    add_photos(tmp_path / "data", "a", "b")
    learn(tmp_path, run)
    add_photos(tmp_path / "data", "c", "d")
    (tmp_path / "data" / "photos" / "a.jpg").unlink()
    outcome = learn(tmp_path, run)
    assert str(outcome.check) == "2 photos added, 1 photo removed since version 0001"
    assert (outcome.state, outcome.before, outcome.current) == (PROMOTED, "0001", "0002")
    assert learn(tmp_path, run).state == NOTHING_NEW


def test_a_candidate_that_the_gate_holds_back_is_judged_once(tmp_path: Path) -> None:
    run = FinishedRuns(0.5, 0.2, 0.9)
    add_photos(tmp_path / "data", "a")
    learn(tmp_path, run, gate=GATE)
    add_photos(tmp_path / "data", "b")
    outcome = learn(tmp_path, run, gate=GATE)
    assert (outcome.state, outcome.current) == (KEPT, "0001")
    assert str(outcome) == (
        f"version 0002 kept aside, version 0001 stays: {METRIC} is 0.2, at least 0.3 was asked"
    )
    assert learn(tmp_path, run, gate=GATE).state == NOTHING_NEW
    last = Registry(RunFolder(tmp_path / "run")).history()[-1]
    assert (last.event, last.previous, last.gate[0]["holds"]) == ("kept", "0001", "no")


def test_the_gate_measures_from_the_version_in_use(tmp_path: Path) -> None:
    run = FinishedRuns(0.9, 0.5, 0.85)
    gate = {METRIC: Bound(may_fall=0.1)}
    for photo, state in (("a", PROMOTED), ("b", KEPT), ("c", PROMOTED)):
        add_photos(tmp_path / "data", photo)
        assert learn(tmp_path, run, gate=gate).state == state


def test_an_interrupted_retraining_goes_on_and_is_decided_once(tmp_path: Path) -> None:
    add_photos(tmp_path / "data", "a")
    learn(tmp_path, FinishedRuns(0.5))
    add_photos(tmp_path / "data", "b")
    whole = FinishedRuns(0.6)

    def breaks(config: object, out: Path) -> dict[str, str]:
        whole(config, out)  # type: ignore[arg-type]  # a stand-in
        raise FlowError("the machine went down")

    config = make_config(tmp_path / "data")
    with pytest.raises(FlowError, match="went down"):
        retrain(config, tmp_path / "run", run=breaks)
    assert check_data(config, tmp_path / "run").has_news
    again = learn(tmp_path, whole)
    assert (again.state, again.current) == (PROMOTED, "0002")
    assert whole.configs[0] == whole.configs[1]
    assert learn(tmp_path, whole).state == NOTHING_NEW


def three_ticks(tmp_path: Path, run: FinishedRuns, **settings) -> list[str]:
    """What three looks in a row come to."""
    return [str(learn(tmp_path, run, **settings)) for _ in range(3)]


def test_data_that_goes_back_to_what_it_was_is_judged_once(tmp_path: Path) -> None:
    run = FinishedRuns(0.5, 0.6, 0.5)
    for photo in "ab":
        add_photos(tmp_path / "data", photo)
        learn(tmp_path, run, keep_detector=False)
    (tmp_path / "data" / "photos" / "b.jpg").unlink()
    back = learn(tmp_path, run, keep_detector=False)
    assert str(back.check) == "1 photo removed since version 0002"
    assert (back.state, back.current) == (PROMOTED, "0001")
    quiet = three_ticks(tmp_path, run, keep_detector=False)
    assert quiet == ["no new data since version 0001"] * 3
    assert len(run.configs) == 3
    add_photos(tmp_path / "data", "b")
    assert learn(tmp_path, run, keep_detector=False).check.difference.added == 1


def test_a_photo_that_comes_during_the_run_is_new_once(tmp_path: Path) -> None:
    add_photos(tmp_path / "data", "a")
    run = FinishedRuns(0.5, meanwhile=lambda: add_photos(tmp_path / "data", "late"))
    first = learn(tmp_path, run, keep_detector=False)
    assert first.check.difference.added == 1
    assert first.version is not None
    data = check_data(make_config(tmp_path / "data"), tmp_path / "run").digest.as_json()
    assert first.version.lineage.data == data
    again = learn(tmp_path, run, keep_detector=False)
    assert str(again.check) == "1 photo added since version 0001"
    assert again.current == "0001"
    quiet = three_ticks(tmp_path, run, keep_detector=False)
    assert quiet == ["no new data since version 0001"] * 3
    assert len(run.configs) == 2


def test_what_is_promoted_by_hand_is_learned_from(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    for photo in "ab":
        add_photos(tmp_path / "data", photo)
        learn(tmp_path, run)
    add_photos(tmp_path / "data", "c")
    run(make_config(tmp_path / "data", seed=3), tmp_path / "run")
    promote(tmp_path / "run", None)
    promote(tmp_path / "run", "1")
    assert three_ticks(tmp_path, run) == ["no new data since version 0003"] * 3


def test_a_current_version_that_is_not_whole_stops_it(tmp_path: Path) -> None:
    gate = {METRIC: Bound(may_fall=0.1)}
    run = FinishedRuns(0.8, 0.9, 0.1, 0.1)
    for photo in "ab":
        add_photos(tmp_path / "data", photo)
        learn(tmp_path, run, gate=gate)
    place = tmp_path / "run" / "models" / "0002"
    add_photos(tmp_path / "data", "c")
    (place / "vqa_train" / "model.safetensors").unlink()
    with pytest.raises(MissingModelError) as error:
        learn(tmp_path, run, gate=gate)
    assert str(error.value) == (
        f"{place}: current, and not whole; oscar-flow models rollback {tmp_path}/run"
    )
    assert len(run.configs) == 2
    assert Registry(RunFolder(tmp_path / "run")).rollback().name == "0001"
    outcome = learn(tmp_path, run, gate=gate)
    assert (outcome.state, outcome.current) == (KEPT, "0001")


def test_a_current_version_that_breaks_during_the_run_is_no_open_gate(tmp_path: Path) -> None:
    place = tmp_path / "run" / "models" / "0001" / "vqa_train" / "model.safetensors"
    gate = {METRIC: Bound(may_fall=0.1)}
    add_photos(tmp_path / "data", "a")
    learn(tmp_path, FinishedRuns(0.9), gate=gate)
    add_photos(tmp_path / "data", "b")
    broken = FinishedRuns(0.1, meanwhile=place.unlink)
    with pytest.raises(MissingModelError, match="0001: current, and not whole"):
        learn(tmp_path, broken, gate=gate, keep_detector=False)
    assert Registry(RunFolder(tmp_path / "run")).current_name() == "0001"


def test_extraction_keeps_the_detector_of_the_version_in_use(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    place = (tmp_path / "run" / "models" / "0001").absolute()
    add_photos(tmp_path / "data", "a")
    learn(tmp_path, run)
    add_photos(tmp_path / "data", "b")
    second = learn(tmp_path, run).version
    assert [each.detector_weights for each in run.configs] == [None, place / "train_detector"]
    assert [each.warm_start for each in run.configs] == [None, None]
    assert second is not None
    assert (second.folder / "train_detector" / "detector.json").is_file()
    assert second.lineage.parents == {"its detector": "0001"}


def test_weights_go_on_from_the_version_in_use_where_asked(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    for photo in "ab":
        add_photos(tmp_path / "data", photo)
        version = learn(tmp_path, run, start="last", keep_detector=False).version
    assert run.configs[1].warm_start == (tmp_path / "run" / "models" / "0001").absolute()
    assert run.configs[1].detector_weights is None
    assert version is not None
    assert version.lineage.parents == {"its weights": "0001"}


def test_force_runs_though_nothing_is_new(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    learn(tmp_path, run)
    assert learn(tmp_path, run, force=True).version is not None
    assert len(run.configs) == 2


def test_only_as_many_past_versions_stay_as_asked(tmp_path: Path) -> None:
    run = FinishedRuns(0.5)
    for photo in "abcd":
        add_photos(tmp_path / "data", photo)
        outcome = learn(tmp_path, run, keep=1, keep_detector=False)
    assert outcome.removed == ("0002",)
    names = [each.name for each in Registry(RunFolder(tmp_path / "run")).versions()]
    assert names == ["0003", "0004"]
