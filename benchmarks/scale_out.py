"""The same photos extracted alone, by torchrun and by Ray with a worker killed: equal bytes?"""

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch

from benchmarks.figure import machine
from detector.checkpoints import save_detector
from detector.config import preset
from detector.model import AttributeRCNN
from flows.child import Request
from flows.demo.write import write_demo
from flows.launch import child_command
from flows.photos import write_photos
from flows.scale import LOCAL, Scale
from flows.stages import detect
from storage.images import list_images
from storage.manifest import read_manifest
from storage.places import Place
from storage.published.label_maps import read_label_map
from tests.processes import descendants, survivors

ROOT = Path(__file__).resolve().parents[1]
NUM_PHOTOS = 48
ROWS_PER_SHARD = 4
KILL_AFTER = 2  # shards
ENGINES = {
    "local": LOCAL,
    "torchrun": Scale(engine="torchrun", workers=2),
    "ray": Scale(engine="ray", workers=2),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one extraction went; files: name -> bytes of shards, manifest and quarantine."""

    seconds: float
    killed: int
    left: int
    num_in: int
    files: dict[str, bytes]


def main(arguments: Sequence[str]) -> int:
    """Print a row an engine; 0 if all wrote the same bytes and left no process behind."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale_out", description=__doc__)
    parser.add_argument("engines", nargs="*", choices=[*ENGINES, []], help="none: all")
    chosen = {"local", *(parser.parse_args(arguments).engines or ENGINES)}
    print(f"{date.today()}  {machine()}")
    print(
        f"{NUM_PHOTOS} scenes of the demo, one of them damaged, in shards of {ROWS_PER_SHARD}; "
        "the demo's detector with random weights; torchrun with 2 processes, Ray with 2 workers, "
        "one of them killed\n"
    )
    print(f"{'engine':10} {'seconds':>8} {'killed':>7} {'left':>5} {'photos':>7}  bytes")
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as place:
        photos = _prepare(Path(place))
        for name in (name for name in ENGINES if name in chosen):
            outcomes[name] = found = _extract(Path(place), photos, name)
            print(
                f"{name:10} {found.seconds:8.1f} {found.killed:7} {found.left:5} "
                f"{found.num_in:7}  {_compared(found.files, outcomes['local'].files)}",
                flush=True,
            )
    is_equal = all(each.files == outcomes["local"].files for each in outcomes.values())
    is_clean = not any(each.left for each in outcomes.values())
    was_killed = "ray" not in outcomes or outcomes["ray"].killed == 1
    print(f"\nscale_out: {'equal' if is_equal else 'DIFFERENT'}, byte for byte")
    return 0 if is_equal and is_clean and was_killed else 1


def _prepare(folder: Path) -> dict[str, Path]:
    """Scenes, a list of them, a detector; the photo folders by number."""
    write_demo(folder / "scenes", seed=0, num_train=NUM_PHOTOS - 8, num_val=2, num_test=6)
    photos = {"0": folder / "scenes" / "images"}
    sources, _ = list_images(photos["0"], "scenes")
    sources[7].path.write_bytes(sources[7].path.read_bytes()[:200])
    write_photos(folder, {"0": sources}, photos)
    label_map = read_label_map(folder / "scenes" / "labelmap.json")
    torch.manual_seed(0)
    config = replace(
        preset("demo"),
        num_classes=len(label_map.class_names),
        num_attributes=len(label_map.attribute_names),
    )
    save_detector(folder / "detector", AttributeRCNN(config).eval(), label_map)
    return photos


def _extract(folder: Path, photos: dict[str, Path], name: str) -> Outcome:
    """One child, as the runner starts it."""
    place, scale = folder / name, ENGINES[name]
    request = Request(
        stage="detect",
        config={"rows_per_shard": ROWS_PER_SHARD},
        inputs={
            "images": str(folder),
            "photos": {number: str(root) for number, root in photos.items()},
            "detector": str(folder / "detector"),
        },
        outputs={"regions": str(place / "regions")},
        folder=str(place),
        fingerprint="0" * 64,
        scale=asdict(scale),
    )
    path = folder / f"{name}.json"
    path.write_text(json.dumps(asdict(request)))
    start = time.monotonic()
    child = subprocess.Popen(
        child_command(detect.SPREADS, scale, path),
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        stdin=subprocess.PIPE,  # its end would tell the child that its parent is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    below: dict[int, str] = {}
    killed: list[int] = []
    watcher = threading.Thread(target=_watch, args=(child, place, name == "ray", below, killed))
    watcher.start()
    assert child.stdout is not None
    printed = child.stdout.read()
    child.wait()
    watcher.join()
    seconds = time.monotonic() - start
    if child.returncode != 0:
        raise RuntimeError(f"{name}: exit status {child.returncode}\n{printed[-2000:]}")
    summary = json.loads((place / "DONE.json").read_text())["summary"]
    read_manifest(Place(place / "regions"), "regions")
    return Outcome(
        seconds=seconds,
        killed=len(killed),
        left=len(survivors(below)),
        num_in=summary["num_in"],
        files={
            str(file.relative_to(place)): file.read_bytes()
            for file in sorted(place.rglob("*"))
            if file.is_file() and file.name != "DONE.json"
        },
    )


def _watch(
    child: "subprocess.Popen[str]",
    place: Path,
    is_killed: bool,
    below: dict[int, str],
    killed: list[int],
) -> None:
    """Note all processes below the child; SIGKILL to a Ray worker in the middle."""
    while child.poll() is None:
        below.update(descendants(child.pid))
        num_shards = len(list((place / "regions").glob("*.parquet")))
        if is_killed and not killed and num_shards >= KILL_AFTER:
            workers = [each for each in descendants(child.pid).items() if "MapWorker" in each[1]]
            for process, _ in workers[:1]:
                os.kill(process, signal.SIGKILL)
                killed.append(process)
        time.sleep(0.05)


def _compared(files: dict[str, bytes], wanted: dict[str, bytes]) -> str:
    """Which files differ, or that none does."""
    differing = sorted(
        name for name in files.keys() | wanted.keys() if files.get(name) != wanted.get(name)
    )
    if differing:
        return f"{len(differing)} files differ: {', '.join(differing[:3])}"
    return f"{len(files)} files equal"
