"""Extraction is killed in the middle, then done again: the same bytes, nothing twice."""

import json
import os
import signal
from pathlib import Path

import pytest

from flows.scale import LOCAL
from storage.region_shards import RegionReader
from tests.builders_extraction import Ground, close, finish
from tests.builders_flows import until

NUM_PHOTOS = 60


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_whole_shards_stay_and_the_others_are_made(tmp_path: Path, sent: signal.Signals) -> None:
    ground = Ground(tmp_path, NUM_PHOTOS)
    regions = tmp_path / "killed/regions"
    child = ground.start("killed", LOCAL)
    until(lambda: len(list(regions.glob("*.parquet"))) >= 2, seconds=100)
    os.kill(child.pid, sent)
    assert child.wait() in (-sent, 143)
    close(child)
    assert not (regions / "manifest.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in regions.glob("*.parquet")}
    assert 2 <= len(before) < NUM_PHOTOS / 4
    finish(ground.start("killed", LOCAL))
    ground.extract("whole")
    assert ground.bytes_of("killed") == ground.bytes_of("whole")
    assert all((regions / name).stat().st_mtime_ns == time for name, time in before.items())
    summary = json.loads((tmp_path / "killed/DONE.json").read_text())["summary"]
    assert (summary["num_in"], summary["num_out"], summary["num_quarantined"]) == (60, 59, 1)
    assert summary["num_regions"] == sum(
        len(each.class_names) for each in RegionReader(regions).labels_in_order()
    )
