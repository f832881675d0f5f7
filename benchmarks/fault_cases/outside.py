"""The world around a run changes: photos, annotations, configuration, clock, place."""

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from benchmarks.fault_cases.ground import Ground, held, unnamed_photo
from benchmarks.fault_cases.row import Fault, NotInjectedError, NotPossibleError, Row
from benchmarks.fault_cases.trial import Trial
from storage.quarantine import read_quarantine

TRAIN = "vqa_train"
DETECTOR = "train_detector"
HOURS = 5
CAPTIONS = "annotations/v2_scenes_train_annotations.json"


def _photo_changed(
    ground: Ground, name: str, done: str, change: Callable[[Path], str], num_quarantined: int
) -> Iterator[Row]:
    """Something happens to a photo between the list and the extraction; no metric needs it."""
    trial, started, _, before = held(ground, name, DETECTOR, kind="own")
    proof = change(trial.folder)
    trial.go_on(DETECTOR)
    ended = trial.wait(started)
    (folder,) = trial.out.glob("detect-*")
    quarantined = read_quarantine(folder / "quarantine.jsonl") if ended.status == 0 else []
    found = []
    if len(quarantined) != num_quarantined:
        found.append(f"detect set {len(quarantined)} photos aside, not {num_quarantined}")
    reasons = ", ".join(f"{each.image_id}: {each.reason}" for each in quarantined) or "none"
    yield trial.row(
        name,
        done=done,
        proof=proof,
        happened=f"{ended}; set aside: {reasons}",
        before=before,
        found=found,
        may_differ=["detect", "translate_tags"] if num_quarantined else [],
    )


def image_deleted(ground: Ground) -> Iterator[Row]:
    """A photo is gone when it is to be looked at."""

    def delete(folder: Path) -> str:
        unnamed_photo(folder, 0).unlink()
        return f"{unnamed_photo(folder, 0).name} is gone"

    yield from _photo_changed(
        ground,
        "image deleted",
        "a listed photo deleted before it was extracted",
        delete,
        num_quarantined=1,
    )


def image_damaged(ground: Ground) -> Iterator[Row]:
    """A photo is no photo any more when it is to be looked at."""

    def damage(folder: Path) -> str:
        unnamed_photo(folder, 1).write_bytes(b"no photo")
        return f"{unnamed_photo(folder, 1).name} holds 8 bytes of text"

    yield from _photo_changed(
        ground,
        "image damaged",
        "a listed photo overwritten before it was extracted",
        damage,
        num_quarantined=1,
    )


def image_added(ground: Ground) -> Iterator[Row]:
    """A photo comes after the list was made: it is another run's."""

    def add(folder: Path) -> str:
        target = unnamed_photo(folder, 99)
        shutil.copyfile(unnamed_photo(folder, 0), target)
        return f"{target.name} is there"

    yield from _photo_changed(
        ground, "image added", "a photo added after the list was made", add, num_quarantined=0
    )


def annotations_deleted(ground: Ground) -> Iterator[Row]:
    """A file of annotations is gone when it is to be read, and put back."""
    name, step = "annotation file deleted", "list_images"
    trial, started, _, before = held(ground, name, step, kind="own")
    path = trial.folder / "scenes" / CAPTIONS
    aside = path.with_suffix(".aside")
    path.rename(aside)
    trial.go_on(step)
    ended = trial.wait(started)
    found = [] if ended.status == 2 and path.name in ended.line else [f"it said {ended}"]
    aside.rename(path)
    yield trial.row(
        name,
        done=f"{path.name} taken away before it was read",
        proof="renamed while list_images was held",
        happened=f"{ended}; put back, the same command: {trial.run()}",
        before=before,
        found=found,
    )


def config_changed(ground: Ground) -> Iterator[Row]:
    """The YAML file is edited while the run works: it ends as it began."""
    name = "configuration changed"
    trial, started, _, before = held(ground, name, TRAIN)
    text = trial.config.read_text()
    trial.config.write_text(text.replace("learning_rate: 0.01", "learning_rate: 0.02"))
    if trial.config.read_text() == text:
        raise NotInjectedError("the file is unchanged")
    trial.go_on(TRAIN)
    ended = trial.wait(started)
    row = trial.row(
        name,
        done="learning_rate of vqa changed in the file while it trains",
        proof="0.01 -> 0.02",
        happened=str(ended),
        before=before,
    )
    planned = trial.say("plan", str(trial.config), "--out", str(trial.out)).printed
    would = [line.split()[0] for line in planned.splitlines() if " yes " in line]
    expected = [TRAIN, "vqa_predict", "vqa_score", "report"]
    found = [] if would == expected else [f"the next start would run {would}"]
    yield row.with_complaints(found, happened=f"{ended}; the next start would run {would}")


def config_deleted(ground: Ground) -> Iterator[Row]:
    """The YAML file is gone after a kill: the run folder keeps what it needs."""
    name = "configuration deleted"
    trial, started, _, before = held(ground, name, TRAIN)
    trial.clear()
    started.wait(timeout=30)
    trial.config.unlink()
    ended = trial.say("resume", str(trial.out), "--no-prefect")
    yield trial.row(
        name,
        done="everything killed while it trains, then the YAML file deleted",
        proof=f"{trial.config.name} is gone",
        happened=f"oscar-flow resume DIR: {ended}",
        before=before,
    )


def started_twice(ground: Ground) -> Iterator[Row]:
    """The same command a second time while the first works."""
    name = "two starts at once"
    trial, started, _, before = held(ground, name, TRAIN)
    second = trial.say("run", str(trial.config), "--out", str(trial.out), "--no-prefect")
    found = []
    if second.status != 2 or str(started.pid) not in second.line:
        found.append(f"the second start did not refuse by naming the first: {second}")
    trial.go_on(TRAIN)
    ended = trial.wait(started, printed_by=1)
    yield trial.row(
        name,
        done="a second start of the same folder",
        proof=f"process {started.pid} held the folder",
        happened=f"the second: {second}; the first: {ended}",
        before=before,
        found=found,
    )


def moved(ground: Ground) -> Iterator[Row]:
    """The run folder is moved while nothing works in it."""
    name = "run folder moved"
    trial, started, _, before = held(ground, name, TRAIN)
    trial.clear()
    started.wait(timeout=30)
    old, trial.out_name = trial.out, "moved"
    old.rename(trial.out)
    yield trial.row(
        name,
        done="everything killed while it trains, then the run folder renamed",
        proof=f"{old.name}/ is gone, {trial.out.name}/ is there",
        happened=f"the same command with the new place: {trial.run()}",
        before=before,
    )


def _clock_jumps(ground: Ground, name: str, hours: int) -> Iterator[Row]:
    trial = ground.fresh(name, before=TRAIN)
    clock = _clock(ground.folder, trial)
    trial.settings += ["limits.train.heartbeat_seconds=60", "limits.train.seconds=600"]
    trial.hold(TRAIN, 3)
    started = trial.start()
    trial.reached(TRAIN, started)
    before = trial.finished()
    with clock.open("r+b") as stream:  # in place: it is mapped
        stream.write(ctypes.c_int64(hours * 3600))
    trial.go_on(TRAIN)
    ended = trial.wait(started)
    seen = _hours_between(trial, TRAIN, "vqa_predict")
    if abs(seen) < abs(hours) - 1:
        raise NotInjectedError(f"the attempts are {seen:.1f} h apart")
    yield trial.row(
        name,
        done=f"the wall clock of all processes set {hours:+d} h while it trains",
        proof=f"the next step began {seen:+.1f} h after this one",
        happened=str(ended),
        before=before,
    )


def clock_forward(ground: Ground) -> Iterator[Row]:
    """The clock is set to later, as after a suspended night."""
    yield from _clock_jumps(ground, "clock jumps forward", HOURS)


def clock_back(ground: Ground) -> Iterator[Row]:
    """The clock is set to earlier, as by a time server after a wrong start."""
    yield from _clock_jumps(ground, "clock jumps back", -HOURS)


def _hours_between(trial: Trial, first: str, second: str) -> float:
    """From the beginning of one step to that of another, as the run wrote them down."""
    began = {
        step: datetime.fromisoformat(json.loads(path.read_text().splitlines()[-1])["began"])
        for step in (first, second)
        for path in trial.out.glob(f"attempts/{step}-*.jsonl")
    }
    if len(began) < 2:
        raise NotInjectedError(f"no attempts at {first} and {second}")
    return (began[second] - began[first]).total_seconds() / 3600


def _clock(folder: Path, trial: Trial) -> Path:
    """Put a clock that can be set under all processes of a trial; the file that sets it.

    Raises:
        NotPossibleError: There is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotPossibleError("a clock of its own needs a C compiler")
    library = folder / "clock.so"
    if not library.exists():
        source = Path(__file__).with_name("inside") / "clock.c"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
        subprocess.run(command, check=True)
    offset = trial.folder / "clock"
    offset.write_bytes(ctypes.c_int64(0))
    trial.environment |= {"LD_PRELOAD": str(library), "OSCAR_CLOCK": str(offset)}
    return offset


FAULTS = (
    Fault(name="image deleted", inject=image_deleted),
    Fault(name="image damaged", inject=image_damaged),
    Fault(name="image added", inject=image_added),
    Fault(name="annotation file deleted", inject=annotations_deleted),
    Fault(name="configuration changed", inject=config_changed),
    Fault(name="configuration deleted", inject=config_deleted),
    Fault(name="two starts at once", inject=started_twice),
    Fault(name="run folder moved", inject=moved),
    Fault(name="clock jumps forward", inject=clock_forward),
    Fault(name="clock jumps back", inject=clock_back),
)
