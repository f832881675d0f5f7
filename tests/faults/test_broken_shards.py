"""Writing region shards is killed, cut or stopped by a full disk, then done again."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import DamagedFileError, MissingFileError
from storage.region_shards import RegionReader
from tests.builders_storage import bytes_of, many_regions, same, write_regions

ROOT = Path(__file__).resolve().parents[2]
NUM_IMAGES = 14


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.write_regions", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def times_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    write_regions(folder, many_regions(NUM_IMAGES))
    return folder


@pytest.mark.parametrize("kill_at", [0, 3, 8, 13])
def test_killed_and_run_again_gives_the_same_bytes(
    tmp_path: Path, unbroken: Path, kill_at: int
) -> None:
    assert run(tmp_path, NUM_IMAGES, "--kill-at", kill_at).returncode == -signal.SIGKILL
    whole = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert len(whole) == kill_at // 4
    times = {name: (tmp_path / name).stat().st_mtime_ns for name in whole}
    with pytest.raises(MissingFileError, match="incomplete"):
        RegionReader(tmp_path)
    assert run(tmp_path, NUM_IMAGES).returncode == 0
    assert bytes_of(tmp_path) == bytes_of(unbroken)
    assert times == {name: (tmp_path / name).stat().st_mtime_ns for name in whole}


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_cut_shard_is_written_anew_and_no_other(
    tmp_path: Path, unbroken: Path, share: float
) -> None:
    write_regions(tmp_path, many_regions(NUM_IMAGES))
    shard = tmp_path / "regions-00001.parquet"
    shard.write_bytes(shard.read_bytes()[: int(share * shard.stat().st_size)])
    with pytest.raises(DamagedFileError, match=r"regions-00001\.parquet"):
        RegionReader(tmp_path)
    before = times_of(tmp_path)
    write_regions(tmp_path, many_regions(NUM_IMAGES))
    assert bytes_of(tmp_path) == bytes_of(unbroken)
    changed = {name for name, time in times_of(tmp_path).items() if before[name] != time}
    assert changed == {"regions-00001.parquet"}


def test_a_changed_byte_is_found_when_shards_are_taken_up(tmp_path: Path, unbroken: Path) -> None:
    write_regions(tmp_path, many_regions(NUM_IMAGES))
    shard = tmp_path / "regions-00002.parquet"
    content = bytearray(shard.read_bytes())
    content[content.index(b"photos/9")] ^= 1
    shard.write_bytes(content)
    write_regions(tmp_path, many_regions(NUM_IMAGES))
    assert bytes_of(tmp_path) == bytes_of(unbroken)


def test_a_short_last_shard_is_filled_up_when_photos_are_added(
    tmp_path: Path, unbroken: Path
) -> None:
    write_regions(tmp_path, many_regions(NUM_IMAGES - 4))
    before = times_of(tmp_path)
    write_regions(tmp_path, many_regions(NUM_IMAGES))
    assert bytes_of(tmp_path) == bytes_of(unbroken)
    kept = {name for name, time in times_of(tmp_path).items() if before.get(name) == time}
    assert kept == {"regions-00000.parquet", "regions-00001.parquet"}


def test_leftovers_of_a_killed_write_are_no_shards(tmp_path: Path) -> None:
    (tmp_path / ".regions-00000.parquet.1-1.partial").write_bytes(b"half")
    records = many_regions(3)
    write_regions(tmp_path, records)
    assert all(map(same, RegionReader(tmp_path).in_order(), records))


def test_a_full_disk_is_named_and_whole_shards_stay(tmp_path: Path, unbroken: Path) -> None:
    sizes = [path.stat().st_size for path in sorted(unbroken.glob("*.parquet"))]
    assert sizes[0] < sizes[1]  # the limit falls between the two
    broken = run(tmp_path, NUM_IMAGES, "--file-bytes", sizes[0] + 1)
    assert broken.returncode == 74
    assert broken.stderr == ""
    number, place, _ = broken.stdout.split(maxsplit=2)
    assert int(number) in (errno.EFBIG, errno.ENOSPC)
    assert place == str(tmp_path / "regions-00001.parquet")
    assert sorted(bytes_of(tmp_path)) == ["regions-00000.parquet"]
    assert run(tmp_path, NUM_IMAGES).returncode == 0
    assert bytes_of(tmp_path) == bytes_of(unbroken)
