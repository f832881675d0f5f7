"""A process that opens a corpus as a rank of a training does, and tells what it costs it.

python -m benchmarks.pretraining.rank FOLDER NUM NUMBER: writes a line when it has opened, waits for
one, and then writes its memory as JSON, so that several hold the same files at the same time.
"""

import json
import sys
import time
from pathlib import Path

from oscar_core.task import load_task
from oscar_core.tasks.pretraining.records import Config
from oscar_core.training.order import Order
from storage.library import open_library

BATCH = 1024
NUM_STEPS = 4


def main(folder: Path, num: int, number: int) -> None:
    """Open, draw the first batches, tell."""
    task, config = load_task("pretraining"), Config()
    from oscar_core.tasks.pretraining import dataset  # noqa: F401  # imported for what it brings along

    before = private_bytes()
    start = time.perf_counter()
    library = open_library(
        folder / "regions", folder / "tags", folder / "annotations", read_all=False
    )
    examples = task.examples(config, library, "train")
    phases = task.phases(config, examples)
    order = Order(phases, batch_size=BATCH, seed=1)
    drawn = order.batch(0, 0)
    seconds = time.perf_counter() - start
    for step in range(NUM_STEPS):
        drawn = order.batch(0, step)[number::num]
        texts = [examples[int(index)].document.first for index in drawn.indices]
    print(json.dumps({"opened": len(examples), "texts": len(texts)}), flush=True)
    sys.stdin.readline()
    found = {"seconds": seconds, "added": private_bytes() - before, "all": private_bytes()}
    print(json.dumps(found), flush=True)
    sys.stdin.readline()


def private_bytes() -> int:
    """Memory of this process that no other has."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    private = [line.split() for line in lines if line.startswith("Private_")]
    return sum(int(fields[1]) for fields in private) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
