"""What must hold of a finished run: metrics, bytes, counts, and no process left behind."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.fault_cases.row import EQUAL
from storage.artifacts import damaged_files, read_done

MARKS = "*/DONE.json"
VARIABLE = ("report.html", "README.md", "trained.json")
"""Files that tell times, interruptions or the version of the code; all others are equal."""


def metrics_of(out: Path) -> Mapping[str, Any]:
    """What a run measured."""
    content: Mapping[str, Any] = json.loads((out / "metrics.json").read_text())
    return content


def compared(found: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float = 0.0) -> str:
    """`EQUAL`, "equal within ...", or the first difference.

    Args:
        found: metrics of the disturbed run.
        expected: of the undisturbed one.
        tolerance: how far numbers may be apart, where the order of additions differs.
    """
    if found == expected:
        return EQUAL
    for name in sorted({*found, *expected}):
        left, right = found.get(name), expected.get(name)
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if left != right and not (
            numbers and math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)  # type: ignore[arg-type]  # both are numbers here
        ):
            return f"{name} {right} -> {left}"
    return f"{EQUAL} within {tolerance:g}"


def finished(out: Path) -> dict[str, int]:
    """Files of all finished steps -> when they were written [ns]."""
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for mark in out.glob(MARKS)
        for path in mark.parent.rglob("*")
        if path.is_file()
    }


def done_again(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Steps of which a finished file was written anew or is gone."""
    return sorted({step_of(name) for name, when in before.items() if after.get(name, 0) != when})


def worked_on(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[str, ...]:
    """Steps that were finished, or finished again, in between; in the order of their ends."""
    marks = {name: when for name, when in after.items() if name.endswith("/DONE.json")}
    new = {name: when for name, when in marks.items() if before.get(name) != when}
    return tuple(step_of(name) for name in sorted(new, key=lambda name: new[name]))


def step_of(name: str) -> str:
    """The step whose folder a path inside the run begins with."""
    return name.partition("/")[0].rpartition("-")[0]


def complaints(
    out: Path, undisturbed: Path | None, may_differ: Sequence[str] = ()
) -> Iterator[str]:
    """What does not hold of a finished run.

    Args:
        out: its folder.
        undisturbed: a run whose files it must equal; None where they may differ.
        may_differ: steps whose files may.
    """
    folders = {
        name: out / each for name, each in json.loads((out / "steps.json").read_text()).items()
    }
    for name, folder in folders.items():
        done = read_done(folder)
        if done is None:
            yield f"{name}: not finished"
            continue
        yield from (f"{name}: {each} is damaged" for each in damaged_files(folder, done))
        yield from (f"{name}: leftover {each.name}" for each in folder.rglob(".*.partial"))
        told: Mapping[str, Any] = done.summary
        if "num_in" in told and told["num_in"] != told["num_out"] + told["num_quarantined"]:
            counts = [told[each] for each in ("num_in", "num_out", "num_quarantined")]
            yield f"{name}: in, out, quarantined do not add up: {counts}"
        if undisturbed is not None and name not in may_differ:
            yield from (
                f"{name}: {each} has other bytes" for each in _other_bytes(folder, undisturbed)
            )
    yield from _miscounted(folders)


def _other_bytes(folder: Path, undisturbed: Path) -> list[str]:
    ours, theirs = read_done(folder), read_done(undisturbed / folder.name)
    if ours is None or theirs is None:
        return ["its fingerprint"]
    return [
        name
        for name in sorted({*ours.files, *theirs.files})
        if Path(name).name not in VARIABLE and ours.files.get(name) != theirs.files.get(name)
    ]


def _miscounted(folders: Mapping[str, Path]) -> Iterator[str]:
    """Photos between the list, the shards of regions and those of tags."""
    told = {name: done.summary for name, each in folders.items() if (done := read_done(each))}
    if "detect" not in told or "list_images" not in told:
        return
    shards = sorted(folders["detect"].glob("regions/regions-*.parquet"))
    ids = [
        each
        for shard in shards
        for each in pq.read_table(shard, columns=["image_id"])[0].to_pylist()
    ]
    if len(set(ids)) != len(ids):
        yield f"detect: {len(ids) - len(set(ids))} photos twice"
    if len(ids) != told["detect"]["num_out"]:
        yield f"detect: {len(ids)} rows, {told['detect']['num_out']} counted"
    if told["detect"]["num_in"] != told["list_images"]["num_out"]:
        yield f"detect: {told['detect']['num_in']} of {told['list_images']['num_out']} photos"
    if told["translate_tags"]["num_in"] != len(ids):
        yield f"translate_tags: {told['translate_tags']['num_in']} of {len(ids)} photos"


def left_alive(mark: str, patience_seconds: float) -> list[str]:
    """Processes whose environment holds a mark and that do not go away in time.

    Whatever a run starts inherits the mark, grandchildren included.
    """
    until = time.monotonic() + patience_seconds
    while (found := processes_with(mark)) and time.monotonic() < until:
        time.sleep(0.1)
    return [f"process {pid} still lives: {command_of(pid)[:80]}" for pid in found]


def processes_with(mark: str) -> list[int]:
    """Ids of living processes whose environment holds a text."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
        except OSError:  # gone, or another user's
            continue
    return [pid for pid in found if pid != os.getpid()]


def command_of(pid: int) -> str:
    """Command line of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def digest(path: Path) -> str:
    """SHA-256 of a file, to show that it was really damaged."""
    return sha256(path.read_bytes()).hexdigest()
