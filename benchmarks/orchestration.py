"""What orchestration costs: beside the stages run by hand, at the start, and with nothing to do.

python -m benchmarks orchestration [PART ...] [--config FILE] [--json FILE]

overhead: a whole run against its stages run by hand (`python -m flows.child` on the same requests,
          one after the other), with Prefect's embedded server and without Prefect; as many threads
start:    from the start of the process to the first stage's, beside a flow of two lines under the
          same server: embedded (its database is there already), and running
again:    a run with nothing left to do
plan:     `plan`, and a run with nothing left to do, over 100,000 photos; first and later times
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from benchmarks.figure import Figure, machine, timing
from benchmarks.many_photos import NUM_PHOTOS, lay_photos, mark_all_done
from flows.child_request import child_environment
from flows.config import read_config
from flows.orchestration.database import make_template, provide
from flows.orchestration.settings import DEFAULTS
from tests.prefect_server import serving

ROOT = Path(__file__).resolve().parents[1]
MODERATE = """
base: demo.yaml
render_scenes: {num_train: 200, num_val: 20, num_test: 20}
train_detector: {training: {num_steps: 30, crop_warmup: {num_steps: 30}}}
pretrain: {training: {steps: 60}, settings: {first: null}}
tasks:
  captioning: {training: {steps: 40}}
  retrieval: {training: {steps: 40}}
  vqa: {training: {steps: 40}}
resources: {parallel: 1}
"""
"""The demo with a twelfth of its work, so that overhead is seen before it drowns in it."""
BARE = """
import time
from prefect import flow, task
@task
def first():
    print("began", time.monotonic(), flush=True)
@flow
def bare():
    first()
bare()
"""
N = 3


def overhead(folder: Path, config: Path | None) -> Iterator[Figure]:
    """A whole run minus its stages by hand."""
    if config is None:
        config = folder / "moderate.yaml"
        config.write_text(MODERATE)
    threads = read_config(config).resources.threads
    alone = ("--set", "resources.parallel=1")
    plain, plain_cpu = _both_clocks(
        lambda: _seconds(_oscar("run", config, "--out", folder / "plain", "--no-prefect", *alone))
    )
    by_hand, hand_cpu = _both_clocks(
        lambda: _by_hand(folder / "plain", folder / "by hand", threads)
    )
    prefect, prefect_cpu = _both_clocks(
        lambda: _seconds(_oscar("run", config, "--out", folder / "prefect", *alone))
    )
    yield _one("stages by hand", by_hand, "s")
    yield _one("whole run, --no-prefect", plain, "s")
    yield _one("whole run, embedded server", prefect, "s")
    yield _one("overhead, --no-prefect", plain - by_hand, "s")
    yield _one("overhead, embedded server", prefect - by_hand, "s")
    yield _one("overhead, embedded server, of the stages", 100 * (prefect / by_hand - 1), "%")
    yield _one("stages by hand, processor time", hand_cpu, "s")
    yield _one("overhead, --no-prefect, processor time", plain_cpu - hand_cpu, "s")
    yield _one("overhead, embedded server, processor time", prefect_cpu - hand_cpu, "s")


def _both_clocks(call: Callable[[], float]) -> tuple[float, float]:
    """Seconds by the clock, and of the processor; the latter are steadier on a busy machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _by_hand(done: Path, target: Path, threads: int) -> float:
    """Every stage of a finished run again, in the order of its steps, in another folder."""
    target.mkdir()
    requests = []
    for step in json.loads((done / "steps.json").read_text()):
        text = (done / "state" / f"{step}.request.json").read_text()
        request = json.loads(text.replace(str(done), str(target))) | {"watch_parent": False}
        requests.append(target / f"{step}.request.json")
        requests[-1].write_text(json.dumps(request))
    environment = child_environment(threads, _environment())
    began = time.monotonic()
    for path in requests:
        subprocess.run(
            [sys.executable, "-u", "-m", "flows.child", str(path)],
            env=environment,
            cwd=target,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return time.monotonic() - began


def start(folder: Path, config: Path | None) -> Iterator[Figure]:
    """From the start of the process to the first stage's."""
    make_template()
    config = folder / "start.yaml"
    config.write_text(MODERATE)
    script = folder / "bare.py"
    script.write_text(BARE)
    yield from _both_starts(folder, config, script, "embedded server", {})
    with serving(folder / "server") as address:
        yield from _both_starts(
            folder, config, script, "running server", {"PREFECT_API_URL": address}
        )


def _both_starts(
    folder: Path, config: Path, script: Path, server: str, own: Mapping[str, str]
) -> Iterator[Figure]:
    """Bare and ours in turn, after one round that is not counted."""
    bare: list[float] = []
    ours: list[float] = []
    for number in range(N + 1):
        home = folder / f"{server} {number}"
        provide(home / ".prefect")
        environment = {**_environment(), **DEFAULTS, **own}
        bare.append(_bare_start(script, {**environment, "PREFECT_HOME": str(home / ".prefect")}))
        ours.append(_our_start(config, home / "run", {**_environment(), **own}))
    yield timing(f"bare flow to its first task, {server}", bare[1:])
    yield timing(f"oscar-flow to its first stage, {server}", ours[1:])
    more = [b - a for a, b in zip(bare[1:], ours[1:], strict=True)]
    yield timing(f"oscar-flow beyond the bare flow, {server}", more)


def _bare_start(script: Path, environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = (each for each in ended.stdout.splitlines() if each.startswith("began "))
    return float(line.split()[1]) - began


def _our_start(config: Path, out: Path, environment: Mapping[str, str]) -> float:
    """Until the first stage's process is there; then the run is stopped."""
    began = time.monotonic()
    with subprocess.Popen(
        _oscar("run", config, "--out", out),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        state = out / "state" / "render_scenes.json"
        while not state.exists():
            if run.poll() is not None:
                raise RuntimeError(f"the run ended with {run.returncode} before its first stage")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        run.terminate()
        run.wait(timeout=120)
    return seconds


def again(folder: Path, config: Path | None) -> Iterator[Figure]:
    """A run whose every step is done."""
    from benchmarks.fault_cases.ground import KINDS

    config = folder / "again.yaml"
    config.write_text(KINDS["rendered"])
    command = _oscar("run", config, "--out", folder / "again")
    _seconds([*command, "--no-prefect"])
    yield timing("nothing to do, 24 photos", [_seconds(command) for _ in range(N)])


def plan(folder: Path, config: Path | None) -> Iterator[Figure]:
    """`plan` over many photos."""
    config = lay_photos(folder / "many")
    out = folder / "many" / "run"
    out.mkdir()
    (out / "state").mkdir()
    command = _oscar("plan", config, "--out", out)
    yield _one(f"plan, {NUM_PHOTOS} photos, first time", _seconds(command), "s")
    yield timing(f"plan, {NUM_PHOTOS} photos, later", [_seconds(command) for _ in range(N)])
    mark_all_done(config, out)
    run = _oscar("run", config, "--out", out)
    yield timing(f"nothing to do, {NUM_PHOTOS} photos", [_seconds(run) for _ in range(N)])


PARTS: Mapping[str, Callable[[Path, Path | None], Iterator[Figure]]] = {
    each.__name__: each for each in (overhead, start, again, plan)
}


def main(arguments: Sequence[str]) -> int:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks orchestration")
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=str(list(PARTS))
    )
    parser.add_argument(
        "--config", type=Path, help="for `overhead` (default: a twelfth of the demo)"
    )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    print(f"{date.today()}  {machine()}, load {load:.1f} before", flush=True)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="oscar-orchestration-") as place:
        for name in options.parts or PARTS:
            folder = Path(place).resolve() / name
            folder.mkdir()
            for figure in PARTS[name](folder, options.config):
                figures.append(figure)
                print(figure, flush=True)
            shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in figures], indent=1))
    return 0


def _oscar(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "flows", *map(str, arguments)]


def _seconds(command: Sequence[str]) -> float:
    began = time.monotonic()
    ended = subprocess.run(
        command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    seconds = time.monotonic() - began
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {ended.stderr.strip() or ended.stdout[-300:]}")
    return seconds


def _environment() -> dict[str, str]:
    """This one without anybody's settings of Prefect, the project importable from anywhere."""
    own = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    return {**own, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}


def _one(name: str, value: float, unit: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, n=1, spread=0.0)
