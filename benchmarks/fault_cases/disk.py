"""Disks that are full or closed to writing."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fault_cases.ground import Ground, held
from benchmarks.fault_cases.row import Fault, NotInjectedError, NotPossibleError, Row
from benchmarks.fault_cases.trial import Trial

TRAIN = "vqa_train"
DETECT = "detect"
ROOM_KILOBYTES = 160
"""Enough to begin and for a few shards, not for all of them, nor for one checkpoint."""
ROOM_FILES = 18
ROOMY = "size=256m,nr_inodes=100000"


def _full(
    ground: Ground, name: str, step: str, limit: str, *, makes_room_meanwhile: bool = False
) -> Iterator[Row]:
    """A small file system that fills up in the middle of a step.

    limit: as mount options, with {kilobytes} and {files} for what is used already and the little
        more that the run needs to begin
    """
    trial = ground.fresh(name, before=step)
    before: Mapping[str, int]
    with _small_disk(trial.out):
        before = trial.finished()
        used = os.statvfs(trial.out)
        _mount(
            trial.out,
            "remount,"
            + limit.format(
                kilobytes=(used.f_blocks - used.f_bfree) * used.f_frsize // 1024 + ROOM_KILOBYTES,
                files=used.f_files - used.f_ffree + ROOM_FILES,
            ),
        )
        trial.settings += ["resources.retries=2" if makes_room_meanwhile else "resources.retries=1"]
        if makes_room_meanwhile:
            trial.settings += ["resources.retry_seconds=4.0"]
        started = trial.start()
        if makes_room_meanwhile:
            trial.until(lambda: "again in" in trial.printed(), "a retry", started)
            proof = _no_room(trial, step, trial.printed())
            _mount(trial.out, f"remount,{ROOMY}")
            happened = f"room was made while it waited; the same start: {trial.wait(started)}"
        else:
            ended = trial.wait(started)
            proof = _no_room(trial, step, ended.printed)
            _mount(trial.out, f"remount,{ROOMY}")
            happened = f"{ended}; room was made; the same command: {trial.run()}"
        row = trial.row(
            name,
            done=f"a file system that is full in the middle of {step}",
            proof=proof,
            happened=happened,
            before=before,
        )
    yield row


def _no_room(trial: Trial, step: str, printed: str) -> str:
    told = [each for each in printed.splitlines() if step in each and "no space left" in each]
    if not told:
        raise NotInjectedError(f"{step} met no full disk: {printed[-300:]}")
    room = os.statvfs(trial.out)
    return f"{room.f_bavail * room.f_frsize // 1024} kB and {room.f_favail} files free"


def full_in_extraction(ground: Ground) -> Iterator[Row]:
    """No room for a shard."""
    yield from _full(ground, "disk full in extraction", DETECT, "size={kilobytes}k")


def full_in_training(ground: Ground) -> Iterator[Row]:
    """No room for a checkpoint."""
    yield from _full(ground, "disk full in training", TRAIN, "size={kilobytes}k")


def full_for_a_while(ground: Ground) -> Iterator[Row]:
    """Room is made while the run waits to try again."""
    yield from _full(
        ground, "disk full for a while", DETECT, "size={kilobytes}k", makes_room_meanwhile=True
    )


def out_of_files(ground: Ground) -> Iterator[Row]:
    """Room, but no inode left."""
    yield from _full(ground, "no inode left", DETECT, "nr_inodes={files}")


def closed_in_training(ground: Ground) -> Iterator[Row]:
    """The folder of the step becomes read-only while it works."""
    name = "output becomes read-only"
    trial, started, child, before = held(ground, name, TRAIN, without_root=True)
    (folder,) = trial.out.glob(f"{TRAIN}-*")
    with _closed(folder):
        trial.go_on(TRAIN)
        ended = trial.wait(started)
    if ended.status == 0:
        raise NotInjectedError("the run did not notice that it could not write")
    yield trial.row(
        name,
        done=f"the folder of {TRAIN} closed to writing while process {child} works",
        proof=f"the run met it: {ended.line[:160]}",
        happened=f"exit {ended.status}; opened again, the same command: {trial.run()}",
        before=before,
    )


def closed_from_the_start(ground: Ground) -> Iterator[Row]:
    """The run folder cannot be written at all."""
    name = "output is read-only"
    trial = ground.fresh(name, before=TRAIN)
    trial.drop_root()
    before = trial.finished()
    with _closed(trial.out):
        ended = trial.run()
    if ended.status == 0:
        raise NotInjectedError("the run did not notice that it could not write")
    yield trial.row(
        name,
        done="the run folder closed to writing",
        proof=f"the run met it: {ended.line[:160]}",
        happened=f"exit {ended.status}; opened again, the same command: {trial.run()}",
        before=before,
    )


def closed_logs(ground: Ground) -> Iterator[Row]:
    """Logs cannot be written: the work goes on without them."""
    name = "log folder unwritable"
    trial = ground.fresh(name, before="vqa_predict")
    trial.drop_root()
    logs = trial.out / "logs"
    logs.mkdir(exist_ok=True)
    before = trial.finished()
    with _closed(logs):
        ended = trial.run()
        written = list(logs.iterdir())
    if written:
        raise NotInjectedError(f"{written[0].name} was written all the same")
    yield trial.row(
        name,
        done="logs/ closed to writing",
        proof="no log was written",
        happened=str(ended),
        before=before,
    )


@contextmanager
def _small_disk(place: Path) -> Iterator[None]:
    """A file system of its own under a folder, with the folder's content."""
    if os.geteuid() != 0:
        raise NotPossibleError("mounting a small file system needs root")
    aside = place.with_name("aside")
    place.rename(aside)
    place.mkdir()
    _mount(place, ROOMY, "-t", "tmpfs", "tmpfs")
    try:
        shutil.copytree(aside, place, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)
        shutil.rmtree(aside)


def _mount(place: Path, options: str, *before: str) -> None:
    ended = subprocess.run(
        ["mount", *before, "-o", options, str(place)], capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise NotPossibleError(f"mount: {ended.stderr.strip()}")


@contextmanager
def _closed(folder: Path) -> Iterator[None]:
    """A folder and those below it without the right to write."""
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in places}
    for path in places:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


FAULTS = (
    Fault(name="disk full in extraction", inject=full_in_extraction),
    Fault(name="disk full in training", inject=full_in_training),
    Fault(name="disk full for a while", inject=full_for_a_while),
    Fault(name="no inode left", inject=out_of_files),
    Fault(name="output becomes read-only", inject=closed_in_training),
    Fault(name="output is read-only", inject=closed_from_the_start),
    Fault(name="log folder unwritable", inject=closed_logs),
)
