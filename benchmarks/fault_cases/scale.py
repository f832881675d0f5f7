"""Several workers, of which one or all are lost; several runs and one device."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.fault_cases import audit
from benchmarks.fault_cases.ground import Ground
from benchmarks.fault_cases.row import Fault, NotInjectedError, NotPossibleError, Row
from benchmarks.fault_cases.trial import Trial, Undisturbed

TRAIN = "vqa_train"
DETECT = "detect"
RAY = ("scale.engine=ray", "scale.workers=2")
TORCHRUN = ("scale.engine=torchrun", "scale.workers=2")


def _ray_trial(ground: Ground, name: str) -> Trial:
    try:
        import ray  # noqa: F401  # the extra that these rows need
    except ImportError:
        raise NotPossibleError("the extra `ray` is not installed") from None
    trial = ground.fresh(name, before=DETECT)
    trial.settings += RAY
    trial.order({"ray": {"at": 1, "do": "hold"}})
    return trial


def ray_worker_killed(ground: Ground) -> Iterator[Row]:
    """One of two workers dies with a half-written shard; the output is that of one process."""
    name = "Ray worker lost"
    trial = _ray_trial(ground, name)
    before = trial.finished()
    started = trial.start()
    worker = trial.reached("ray", started)
    shown = audit.command_of(worker)[:60]
    proof = f"{trial.kill(worker)} ({shown})"
    trial.gone(worker)
    trial.go_on("ray")
    yield trial.row(
        name,
        done="SIGKILL of one of two Ray workers while it writes a shard",
        proof=proof,
        happened=f"the same start: {trial.wait(started)}",
        before=before,
    )


def ray_driver_killed(ground: Ground) -> Iterator[Row]:
    """The step's own process dies: its cluster must go with it."""
    name = "Ray driver killed"
    trial = _ray_trial(ground, name)
    before = trial.finished()
    started = trial.start()
    trial.reached("ray", started)
    state = json.loads((trial.out / "state" / f"{DETECT}.json").read_text())
    others = set(trial.processes()) - {started.pid, int(state["pid"])}
    proof = f"{trial.kill(int(state['pid']))}, which had {len(others)} others about it"
    yield trial.row(
        name,
        done="SIGKILL of the step's process, which had started a Ray cluster",
        proof=proof,
        happened=f"the same start: {trial.wait(started)}",
        before=before,
    )


def _on_two(ground: Ground, name: str) -> Trial:
    """A run that is to train on two processes, compared with one that did so undisturbed."""
    usual = ground.fresh(f"{name} undisturbed", before=TRAIN)
    usual.settings += TORCHRUN
    ended = usual.run()
    if ended.status != 0:
        raise NotInjectedError(f"two processes do not even train undisturbed: {ended}")
    trial = ground.fresh(name, before=TRAIN)
    trial.settings += TORCHRUN
    trial.undisturbed = Undisturbed(out=usual.out, metrics=audit.metrics_of(usual.out), steps=())
    trial.hold(TRAIN, 3)
    return trial


def _ranks(pids: Sequence[int], rank: int) -> list[int]:
    """Those of the processes that are of that rank in a training."""
    mark = f"\0RANK={rank}\0".encode()
    return [
        pid
        for pid in pids
        if mark in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
        and "flows.child" in audit.command_of(pid)
    ]


def rank_killed(ground: Ground) -> Iterator[Row]:
    """One of two processes of a training dies: both begin again at the last checkpoint."""
    name = "torchrun worker lost"
    trial = _on_two(ground, name)
    before = trial.finished()
    started = trial.start()
    trial.reached(TRAIN, started)
    workers = _ranks(trial.processes(), 1)
    if not workers:
        raise NotInjectedError("no process of rank 1 was found")
    proof = f"{trial.kill(workers[0])}, rank 1 of 2"
    trial.go_on(TRAIN)
    yield trial.row(
        name,
        done="SIGKILL of one of two training processes",
        proof=proof,
        happened=f"the same start: {trial.wait(started)}",
        before=before,
    )


def torchrun_parent_killed(ground: Ground) -> Iterator[Row]:
    """The run is killed: torchrun's agent and all ranks must go with it."""
    name = "parent killed, torchrun"
    trial = _on_two(ground, name)
    before = trial.finished()
    started = trial.start()
    trial.reached(TRAIN, started)
    others = len(trial.processes()) - 1
    proof = f"{trial.kill(started.pid)}, which had {others} descendants"
    started.wait(timeout=30)
    found = trial.left_alive()
    yield trial.row(
        name,
        done="SIGKILL of a run that trains on two processes",
        proof=proof,
        happened=f"the same command: {trial.run()}",
        before=before,
        found=found,
    )


def device_holder_killed(ground: Ground) -> Iterator[Row]:
    """Two runs, one device: the second waits, and goes on when the first is killed."""
    name = "holder of the device killed"
    devices = {"OSCAR_FLOW_GPUS": "1", "OSCAR_FLOW_LOCKS": str(ground.folder / "locks")}
    (ground.folder / "locks").mkdir(exist_ok=True)
    holder = ground.fresh(f"{name} first", before=TRAIN)
    holder.environment |= devices
    holder.hold(TRAIN, 3)
    first = holder.start()
    child = holder.reached(TRAIN, first)
    trial = ground.fresh(name, before=TRAIN)
    trial.environment |= devices
    before = trial.finished()
    started = trial.start()
    trial.until(lambda: "wait" in trial.printed(), "the second run to say that it waits", started)
    proof = f"{holder.kill(first.pid)}, whose child {child} held the device"
    first.wait(timeout=30)
    yield trial.row(
        name,
        done="a run waits for the only device, whose holder is killed",
        proof=proof,
        happened=f"the second run: {trial.wait(started)}",
        before=before,
        found=holder.left_alive(),
    )


FAULTS = (
    Fault(name="Ray worker lost", inject=ray_worker_killed),
    Fault(name="Ray driver killed", inject=ray_driver_killed),
    Fault(name="torchrun worker lost", inject=rank_killed),
    Fault(name="parent killed, torchrun", inject=torchrun_parent_killed),
    Fault(name="holder of the device killed", inject=device_holder_killed),
)
