"""Extraction killed, its disk filled, a Ray worker killed, 5 % of the photos corrupt: what is left.

python -m benchmarks extraction_faults [FAULT ...] [--json FILE]

Every fault is really made to happen in the middle of an extraction of 120 photos, 100 of a folder
and 20 of a tar, 6 of them corrupt; then the same command is given again. A row tells the counts,
and whether the shards are those of an extraction that nothing disturbed, byte for byte. Exit
status 1 when a fault did not happen or a row is not as it should be.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from benchmarks.figure import machine
from flows.photos import read_photos
from flows.scale import LOCAL, Scale
from flows.stages import list_images
from flows.stages.list_images import Reading
from storage.quarantine import QUARANTINE_NAME, count_reasons, read_quarantine
from storage.region_shards import RegionReader
from tests.builders_extraction import Ground, close, finish
from tests.builders_photos import lay_tar, picture
from tests.processes import descendants, survivors

NUM_FILES, NUM_MEMBERS = 100, 20
KILL_AFTER = 5
"""Shards."""
_ROOM = 0.4  # of what the shards need
_LONGEST_SECONDS = 600


class _NotPossibleError(Exception):
    """This machine cannot make the fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How an extraction took a fault.

    proof:    how it is known that it happened, and what was there by then
    num_in:   photos listed; out + quarantined of them are accounted for
    reasons:  why photos were set aside -> how often
    twice:    image ids with more than one record
    lost:     image ids with neither record nor reason
    is_equal: shards, manifest and quarantine are the undisturbed ones, byte for byte
    left:     processes that live on
    """

    fault: str
    proof: str
    seconds: float
    num_in: int
    num_out: int
    num_quarantined: int
    reasons: dict[str, int]
    twice: int
    lost: int
    is_equal: bool
    left: int

    @property
    def is_survived(self) -> bool:
        """Whether it happened, and nothing of it can be seen."""
        counted = self.num_in == self.num_out + self.num_quarantined
        return (
            bool(self.proof)
            and counted
            and self.is_equal
            and not (self.twice or self.lost or self.left)
        )


def main(arguments: Sequence[str]) -> int:
    """Try the faults and print a row each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks extraction_faults", description=__doc__
    )
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(FAULTS)}; none: all")
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    options = parser.parse_args(arguments)
    if unknown := set(options.faults) - FAULTS.keys():
        print(f"error: no fault {min(unknown)!r}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    print(f"{date.today()}  {machine()}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="oscar-extraction-") as folder:
        ground = lay_ground(Path(folder) / "ground")
        for name, inject in FAULTS.items():
            if options.faults and name not in options.faults and name != "none":
                continue
            try:
                rows.append(tried(ground, name, inject))
                print(as_line(rows[-1]), flush=True)
            except _NotPossibleError as error:
                print(f"not tried: {name}: {error}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    survived = sum(row.is_survived for row in rows)
    print(f"extraction_faults: {len(rows)} tried, {survived} survived")
    return 0 if survived == len(rows) else 1


def as_line(row: Row) -> str:
    """A row of the table."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in row.reasons.items())
    return (
        f"{row.fault:14} {'survived' if row.is_survived else 'NOT SURVIVED':12} "
        f"{row.seconds:6.1f} s   in {row.num_in} = out {row.num_out} + quarantined "
        f"{row.num_quarantined} ({reasons}); twice {row.twice}, lost {row.lost}, "
        f"bytes {'equal' if row.is_equal else 'DIFFER'}, left alive {row.left}\n"
        f"    {row.proof or 'it did not happen'}"
    )


def lay_ground(folder: Path) -> Ground:
    """Photos in a folder and in a tar, 5 % of them corrupt, each in a way of its own."""
    ground = Ground(folder, NUM_FILES, damaged=None)
    files = [Path(source.path) for source in ground.sources[3::20]]
    whole = files[0].read_bytes()
    for path, content in zip(
        files, (whole[:40], whole[: len(whole) // 2], b"", b"<html>404</html>", _bomb(whole)),
        strict=True,
    ):  # fmt: skip
        path.write_bytes(content)
    members = {f"m{number}": picture(number, size=(64, 48)) for number in range(NUM_MEMBERS)}
    members["m7"] = members["m7"][:-30]
    ground.roots = {**ground.roots, "1": lay_tar(folder / "photos.tar", members)}
    list_images.run(
        list_images.Config(
            collections={"0": Reading(namespace="files"), "1": Reading(namespace="tar")}
        ),
        list_images.Inputs(photos=ground.roots),
        list_images.Outputs(images=folder),
    )
    return ground


def _bomb(png: bytes) -> bytes:
    """A photo whose header tells of 60,000 x 60,000 pixels."""
    return png[:16] + (60_000).to_bytes(4) * 2 + png[24:]


def tried(ground: Ground, name: str, inject: "Callable[[Ground, str], Ended]") -> Row:
    """Make a fault happen, give the command again, look at what is there."""
    started = time.monotonic()
    ended = inject(ground, name)
    place = ground.folder / name
    listed = [source.image_id for source in read_photos(ground.folder, ground.roots)]
    seen = Counter(iter(RegionReader(place / "regions")))
    aside = read_quarantine(place / QUARANTINE_NAME)
    accounted = seen + Counter(entry.image_id for entry in aside)
    return Row(
        fault=name,
        proof=ended.proof,
        seconds=time.monotonic() - started,
        num_in=len(listed),
        num_out=sum(seen.values()),
        num_quarantined=len(aside),
        reasons=count_reasons(aside),
        twice=sum(count > 1 for count in accounted.values()),
        lost=len(set(listed) - accounted.keys()),
        is_equal=ground.bytes_of(name) == ground.bytes_of("none"),
        left=len(survivors(ended.below)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """proof: as of the row; below: processes that were seen to belong to the extraction."""

    proof: str
    below: dict[int, str]


def undisturbed(ground: Ground, name: str) -> Ended:
    """5 % of the photos are corrupt, and nothing else happens."""
    finish(ground.start(name, LOCAL))
    return Ended(proof=f"{_num_shards(ground, name)} shards, 6 corrupt photos", below={})


def killed(ground: Ground, name: str) -> Ended:
    """SIGKILL to the process that extracts, and the same command again."""
    child = ground.start(name, LOCAL)
    _until(lambda: _num_shards(ground, name) >= KILL_AFTER or child.poll() is not None)
    below = {child.pid: "", **descendants(child.pid)}
    os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    close(child)
    there = _times(ground, name)
    finish(ground.start(name, LOCAL))
    kept = sum(_times(ground, name).get(file) == time_ for file, time_ in there.items())
    was_killed = status == -signal.SIGKILL
    proof = f"exit {status} with {len(there)} whole shards; {kept} of them stayed untouched"
    return Ended(proof=proof if was_killed and kept == len(there) else "", below=below)


def disk_full(ground: Ground, name: str) -> Ended:
    """A file system that has room for two fifths of the shards; then for all."""
    needed = sum(map(len, ground.bytes_of("none").values()))
    place = ground.folder / name
    with _small_disk(place, int(_ROOM * needed)) as make_room:
        child = ground.start(name, LOCAL)
        assert child.stdout is not None
        printed = child.stdout.read()
        status = child.wait()
        close(child)
        there = _times(ground, name)
        make_room()
        finish(ground.start(name, LOCAL))
        kept = sum(_times(ground, name).get(file) == time_ for file, time_ in there.items())
        content = ground.bytes_of(name)
    for file, each in content.items():  # the file system has gone
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(each)
    said = [line for line in printed.splitlines() if "No space left" in line or "no space" in line]
    proof = (
        f"exit {status}, 'no space left on device', with {len(there)} whole shards; {kept} stayed"
    )
    return Ended(proof=proof if status and said and kept == len(there) > 0 else "", below={})


def ray_worker_killed(ground: Ground, name: str) -> Ended:
    """SIGKILL to one of Ray's two workers; nobody gives the command again."""
    try:
        import ray  # noqa: F401  # is it installed?
    except ImportError:
        raise _NotPossibleError("Ray is not installed (extra `ray`)") from None
    child = ground.start(name, Scale(engine="ray", workers=2))
    below: dict[int, str] = {}
    gone: list[int] = []

    def kill_one() -> None:
        _until(lambda: _num_shards(ground, name) >= KILL_AFTER or child.poll() is not None)
        below.update(descendants(child.pid))
        gone.extend([each for each, command in below.items() if "MapWorker" in command][:1])
        for worker in gone:
            os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    finish(child)
    killer.join()
    proof = f"worker {gone[0]} killed after {KILL_AFTER} shards or more" if gone else ""
    return Ended(proof=proof, below=below)


FAULTS: "dict[str, Callable[[Ground, str], Ended]]" = {
    "none": undisturbed,
    "kill -9": killed,
    "disk full": disk_full,
    "ray worker": ray_worker_killed,
}


@contextmanager
def _small_disk(place: Path, room: int) -> Iterator[Callable[[], None]]:
    """A file system of its own with so much room [bytes]; what makes room is handed out."""
    place.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place))
    try:
        yield lambda: _mount("-o", "remount,size=256m", str(place))
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def _mount(*arguments: str) -> None:
    ended = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if ended.returncode != 0:
        raise _NotPossibleError(f"mount: {ended.stderr.strip()}")


def _until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + _LONGEST_SECONDS
    while not is_so():
        if time.monotonic() > ends:
            raise TimeoutError(f"nothing happened for {_LONGEST_SECONDS} seconds")
        time.sleep(0.02)


def _num_shards(ground: Ground, name: str) -> int:
    return len(list((ground.folder / name / "regions").glob("*.parquet")))


def _times(ground: Ground, name: str) -> dict[str, int]:
    regions = ground.folder / name / "regions"
    return {path.name: path.stat().st_mtime_ns for path in regions.glob("*.parquet")}
