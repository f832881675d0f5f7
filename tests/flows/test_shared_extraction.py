"""Workers hand over their shards through an S3-compatible store."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from detector.extract import extract_shard
from flows.scale import Scale
from flows.stages import detect
from storage.errors import StorageError
from tests.builders_extraction import SHARDS_OF, Ground, finish

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """An empty bucket `shards`; the environment in which it is found."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("shards")
        yield environment
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_shards_made_in_the_store_arrive_and_leave_it(
    tmp_path: Path, store: dict[str, str]
) -> None:
    import s3fs

    ground = Ground(tmp_path, 10)
    ground.extract("local")
    outputs = detect.Outputs(regions=tmp_path / "detect-0123456789ab" / "regions")
    config = detect.Config(batch_size=2, rows_per_shard=SHARDS_OF)
    work = detect.made_ready(config, ground.inputs(), outputs, "s3://shards/runs/")
    made = [extract_shard(each, work.desk, work.extractor) for each in reversed(work.slices)]
    in_store = s3fs.S3FileSystem().find("shards")
    assert in_store == [
        f"shards/runs/detect-0123456789ab/regions-0000{number}.parquet" for number in range(3)
    ]
    detect.finish(work, [detect.arrived(work, report) for report in made])
    detect.clear(work)
    assert ground.bytes_of("detect-0123456789ab") == ground.bytes_of("local")
    s3fs.S3FileSystem().invalidate_cache()
    assert s3fs.S3FileSystem().find("shards") == []


@pytest.mark.slow
def test_two_processes_hand_over_through_the_store(tmp_path: Path, store: dict[str, str]) -> None:
    import s3fs

    ground = Ground(tmp_path, 30)
    ground.extract("local")
    scale = Scale(engine="torchrun", workers=2, shared="s3://shards/runs")
    finish(ground.start("detect-0123456789ac", scale, store))
    assert ground.bytes_of("detect-0123456789ac") == ground.bytes_of("local")
    s3fs.S3FileSystem().invalidate_cache()
    assert s3fs.S3FileSystem().find("shards") == []


def test_a_shard_that_another_machine_kept_for_itself_is_missed(tmp_path: Path) -> None:
    ground = Ground(tmp_path, 10)
    outputs = detect.Outputs(regions=tmp_path / "first" / "regions")
    config = detect.Config(batch_size=2, rows_per_shard=SHARDS_OF)
    work = detect.made_ready(config, ground.inputs(), outputs)
    report = extract_shard(work.slices[0], work.desk, work.extractor)
    assert detect.arrived(work, report) == report
    os.unlink(outputs.regions / report.entry.file)
    with pytest.raises(StorageError, match=r"00000\.parquet: made on another machine .* scale"):
        detect.arrived(work, report)


def test_a_shard_of_a_machine_that_computes_otherwise_is_refused(tmp_path: Path) -> None:
    ground = Ground(tmp_path, 6)
    outputs = detect.Outputs(regions=tmp_path / "detect-0" / "regions")
    work = detect.made_ready(detect.Config(rows_per_shard=6), ground.inputs(), outputs)
    (report,) = (extract_shard(each, work.desk, work.extractor) for each in work.slices)
    assert detect.arrived(work, report) == report
    settings = replace(work.extractor.settings, engine="fast:other")
    elsewhere = replace(work, extractor=replace(work.extractor, settings=settings))
    with pytest.raises(StorageError, match=r"made by engine 'exact', here it is 'fast:other'; set"):
        detect.arrived(elsewhere, report)
