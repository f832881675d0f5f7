"""The stage `detect` through Ray Data: one actor a device or worker, one shard a piece of work.

Ray only says who makes which shard. Each appears whole under its own name, so a worker that dies
takes nothing with it: the shard it was at is made again, by the actor that replaces it.
"""

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flows.child_scale import current_scale
from flows.progress import SILENT, Progress
from flows.scale import Scale
from flows.stages.detect import (
    Config,
    Inputs,
    Outputs,
    Summary,
    Work,
    arrived,
    clear,
    finish,
    made_ready,
    summary_of,
)
from storage.manifest import MANIFEST_NAME
from storage.region_slices import ShardReport, read_slice

STORE_BYTES = 80_000_000
"""Ray's shared memory: only numbers and reports travel (Ray's least is 75 MB)."""
TRIES = 4
"""At each shard: Ray itself replaces dead actors for ever, and a photo may be what kills them."""
LOOK_SECONDS = 1.0
"""Between two looks at how far the workers are."""
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_LONGEST_FOLDER = 24  # of the temporary folder: sockets in it have names of at most 107 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an actor needs to know to make shards; threads: of each."""

    config: Config
    inputs: Inputs
    outputs: Outputs
    shared: str
    threads: int


def run(config: Config, inputs: Inputs, outputs: Outputs, progress: Progress = SILENT) -> Summary:
    """See every photo once, in actors of a running or an own cluster; whole shards stay.

    Raises:
        Exception: What an actor raised, or Ray's own errors when workers keep dying.
    """
    import torch

    scale = current_scale()
    work = made_ready(config, inputs, outputs, scale.shared)
    work.home.remove(MANIFEST_NAME)
    reports = _those_there(work)
    missing = sorted(set(range(len(work.slices))) - reports.keys())
    order = Order(
        config=config,
        inputs=inputs,
        outputs=outputs,
        shared=scale.shared,
        threads=max(1, torch.get_num_threads() // (1 if scale.ray_address else scale.workers)),
    )
    if missing:
        with _cluster(scale), _telling(work, missing, progress) as tally:
            for report in _made_by_actors(order, missing, scale, tally):
                reports[report.number] = arrived(work, report)
    finish(work, list(reports.values()))
    clear(work)
    return summary_of(list(reports.values()))


class ShardMaker:
    """An actor: one detector in memory, shard after shard."""

    def __init__(self, order: Order, tally: Any) -> None:
        import torch

        torch.set_num_threads(order.threads)
        self._work = made_ready(order.config, order.inputs, order.outputs, order.shared)
        self._tally = tally

    def __call__(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make the shards of some numbers; {"number": ...} -> {"report": ...}."""
        return {"report": [self._made(int(number)) for number in batch["number"]]}

    def _made(self, number: int) -> str:
        import ray

        from detector.extract import extract_shard

        stretch = self._work.slices[number]
        if ray.get(self._tally.begin.remote(number)) > TRIES:
            raise ConnectionError(
                f"{self._work.home.describe(stretch.key.file)}: {TRIES} workers died at it, one "
                "after the other; for want of memory, or by one of its photos"
            )
        through = 0

        def tell(more: int) -> None:
            nonlocal through
            through += more
            self._tally.at.remote(number, through)

        return extract_shard(stretch, self._work.desk, self._work.extractor, tell).as_json()


class Tally:
    """An actor that counts how often each shard was begun and how many photos are through."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()
        self._through: dict[int, int] = {}

    def begin(self, number: int) -> int:
        """How often a shard has been begun, this time included."""
        self._begun[number] += 1
        return self._begun[number]

    def at(self, number: int, through: int) -> None:
        """So many photos of a shard; a shard that begins again is counted anew."""
        self._through[number] = through

    def total(self) -> int:
        """Photos of all shards."""
        return sum(self._through.values())


def _those_there(work: Work) -> dict[int, ShardReport]:
    """Shards of an earlier, interrupted attempt."""
    earlier = work.extractor.earlier
    known = earlier.hashes if earlier is not None else ()
    found = (
        read_slice(work.home, stretch.key, work.extractor.settings, known)
        for stretch in work.slices
    )
    return {report.number: report for report in found if report is not None}


def _made_by_actors(
    order: Order, numbers: Sequence[int], scale: Scale, tally: Any
) -> Iterator[ShardReport]:
    """Reports of the shards as they come; one block a shard, so that none waits for another."""
    import ray
    from ray.exceptions import RayTaskError

    has_gpus, size = _places(scale)
    shards = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=len(numbers)
    ).map_batches(
        ShardMaker,
        fn_constructor_args=(order, tally),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(size, len(numbers))),
        num_gpus=1 if has_gpus else None,
        num_cpus=None if has_gpus else 1,
    )
    try:
        for row in shards.iter_rows():
            yield ShardReport.from_json(row["report"])
    except RayTaskError as error:
        # what the actor raised says what to mend; Ray's own text is a page of frames
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise


def _places(scale: Scale) -> tuple[bool, int]:
    """Whether there are GPUs, and how many actors find a place."""
    import ray

    resources: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray's
    num_gpus = int(resources.get("GPU", 0))
    places = num_gpus or int(resources.get("CPU", 1))
    return num_gpus > 0, max(1, min(scale.workers, places))


@contextmanager
def _cluster(scale: Scale) -> Iterator[None]:
    """Join the cluster, or start one that ends with the block; it also ends with this process.

    Raises:
        ConnectionError: It does not answer or does not start.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not scale.ray_address:
        # it listens on every address of this machine; nobody else has the word
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray  # reads the environment once

    on_term = signal.getsignal(signal.SIGTERM)
    with _scratch() as folder:
        try:
            _join(scale, folder)
            signal.signal(signal.SIGTERM, on_term)  # Ray's own leaves with another exit status
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.print_on_execution_start = False
            yield
        finally:
            ray.shutdown()


def _join(scale: Scale, folder: str) -> None:
    """Connect this process; `folder` is for what an own cluster writes.

    Raises:
        ConnectionError: It does not answer or does not start.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if scale.ray_address:
            ray.init(address=scale.ray_address, **quiet)
            return
        ray.init(
            address="local",
            num_cpus=scale.workers,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _temp_dir=folder,
            **quiet,
        )
    except Exception as error:  # Ray says it in many ways
        lines = str(error).strip().splitlines() or [type(error).__name__]
        place = f"at {scale.ray_address} does not answer" if scale.ray_address else "does not start"
        raise ConnectionError(f"Ray's cluster {place}: {lines[0]}") from error


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder that goes with the block; Ray's last writers may still be at it."""
    folder = tempfile.mkdtemp(prefix="ray-", dir=_short_folder())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > _LONGEST_FOLDER else None


@contextmanager
def _telling(work: Work, missing: Sequence[int], progress: Progress) -> Iterator[Any]:
    """A tally for the actors, and a thread that tells its count while the block works."""
    import ray

    tally: Any = ray.remote(num_cpus=0)(Tally).remote()
    before = work.num_photos - sum(len(work.slices[number]) for number in missing)
    is_over = threading.Event()

    def tell() -> None:
        through = -1
        while not is_over.wait(LOOK_SECONDS):
            try:
                now = int(ray.get(tally.total.remote(), timeout=10 * LOOK_SECONDS))
            except ray.exceptions.RayError:
                continue  # a lost tally is no lost shard
            if now != through:
                through = now
                progress.at(before + through, work.num_photos, unit="photos")

    teller = threading.Thread(target=tell, name="tally", daemon=True)
    teller.start()
    try:
        yield tally
        progress.at(work.num_photos, work.num_photos, unit="photos")
    finally:
        is_over.set()
        teller.join(timeout=2 * LOOK_SECONDS)
