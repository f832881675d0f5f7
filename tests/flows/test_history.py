"""What a run came to each time it ended."""

import json
from pathlib import Path

from flows.history import passed, previous_metrics, record
from flows.run_folder import RunFolder


def end(run: RunFolder, folder: str, **metrics: float) -> None:
    """A run that ended with these metrics from that folder."""
    folders = {"score": folder}
    run.steps.write_text(json.dumps(folders))
    record(run, "seed: 1\n", folders, metrics)


def test_an_end_with_other_metrics_or_folders_is_an_entry(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    end(run, "score-1", cider=0.5)
    end(run, "score-1", cider=0.5)
    end(run, "score-1", cider=0.6)
    end(run, "score-2", cider=0.6)
    assert [(each.number, each.metrics["cider"]) for each in passed(run)] == [
        (1, 0.5),
        (2, 0.6),
        (3, 0.6),
    ]
    assert passed(run)[2].folders == {"score": "score-2"}


def test_the_previous_metrics_are_those_of_other_folders(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert previous_metrics(run) == {}
    end(run, "score-1", cider=0.5)
    assert previous_metrics(run) == {}
    run.steps.write_text(json.dumps({"score": "score-2"}))  # the next run has begun
    assert previous_metrics(run) == {"cider": 0.5}
    end(run, "score-2", cider=0.7)
    assert previous_metrics(run) == {"cider": 0.5}


def test_a_damaged_entry_is_left_out_and_its_number_not_given_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    end(run, "score-1", cider=0.5)
    end(run, "score-2", cider=0.6)
    (tmp_path / "history" / "0002.json").write_text("{")
    end(run, "score-3", cider=0.7)
    assert [each.number for each in passed(run)] == [1, 3]
