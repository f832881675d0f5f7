"""Processes that share numbered work: every number once, every report collected."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows.team import Alone
from tests.builders_flows import ROOT

WORKER = """
import sys, time
from flows.ranks import rank
from flows.team import team
fellows = team()
for number in fellows.claims(7):
    fellows.count(number)
    fellows.hand_in(f"{number} by {rank()}")
    time.sleep(0.05)
if rank() == 0:
    reports = sorted(fellows.collect(7, lambda: None))
    print("reports", [report.split()[0] for report in reports], fellows.count(0), flush=True)
fellows.wait_for_writers(2)
"""


def test_alone_every_piece_is_claimed_and_collected() -> None:
    alone = Alone()
    for number in alone.claims(3):
        alone.hand_in(f"report {number}")
        alone.count(2)
    assert alone.count(0) == 6
    assert list(alone.collect(3, lambda: None)) == ["report 0", "report 1", "report 2"]
    alone.wait_for_writers(1)


@pytest.mark.slow
def test_two_processes_do_every_piece_once(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("--local-addr=127.0.0.1", str(script)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "reports ['0', '1', '2', '3', '4', '5', '6'] 21" in done.stdout
