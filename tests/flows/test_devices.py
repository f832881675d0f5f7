"""Devices are taken by one process at a time, by locks that the kernel drops."""

import signal
import subprocess
import threading
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from flows.attempts import read_attempts
from flows.devices import GPUS, LOCKS, VISIBLE, Claim, DeviceError, claim_devices, devices_here
from flows.errors import CancelledError
from tests.builders_flows import (
    PYTHON,
    ROOT,
    Watched,
    make_execution,
    make_step,
    python_environment,
    until,
)

HOLD = """
import sys, threading
from flows.devices import claim_devices
with claim_devices(int(sys.argv[1]), print, threading.Event()) as claim:
    print(claim.environment["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _two_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv(GPUS, "2")
    monkeypatch.setenv(LOCKS, str(tmp_path / "locks"))


def claim(num: int) -> AbstractContextManager[Claim]:
    """A claim that finds its devices free."""
    return claim_devices(num, pytest.fail, threading.Event())


def test_devices_are_counted_or_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_here() == ("0", "1")
    monkeypatch.setenv(VISIBLE, "3, GPU-ab12")
    assert devices_here() == ("3", "GPU-ab12")
    for none in ("", "-1"):
        monkeypatch.setenv(VISIBLE, none)
        assert devices_here() == ()
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setenv(GPUS, "two")
    with pytest.raises(DeviceError, match="OSCAR_FLOW_GPUS=two: not a number"):
        devices_here()


def test_two_claims_get_two_devices() -> None:
    with claim(1) as first, claim(1) as second:
        assert first.environment == {VISIBLE: "0"}
        assert second.environment == {VISIBLE: "1"}
    with claim(1) as third:
        assert third.devices == ("0",)


def test_without_devices_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    with claim(0) as nothing:
        assert nothing == Claim()
    monkeypatch.setenv(GPUS, "0")
    with claim(1) as nothing:
        assert nothing == Claim()


def test_more_than_there_are_means_all() -> None:
    with claim(5) as both:
        assert both.environment == {VISIBLE: "0,1"}


def test_a_claim_of_two_waits_for_both_and_keeps_none_meanwhile() -> None:
    stop = threading.Event()
    said: list[str] = []
    waiting = claim_devices(2, said.append, stop)
    with claim(1):
        threading.Timer(0.4, stop.set).start()
        with pytest.raises(CancelledError, match="stopped while waiting for a device"), waiting:
            pass
        assert [line[:24] for line in said] == ["waits for 2 of 2 devices"]
        with claim(1) as other:
            assert other.devices == ("1",)


def test_a_killed_holder_holds_nothing() -> None:
    holder = subprocess.Popen(
        [PYTHON, "-c", HOLD, "2"],
        env=python_environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "0,1\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        started = time.monotonic()
        with claim(2) as both:
            assert len(both.devices) == 2
        assert time.monotonic() - started < 0.5


def test_a_folder_of_somebody_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(LOCKS)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with claim(1):
        (folder,) = tmp_path.glob("oscar-flow-*")
        assert folder.stat().st_mode & 0o777 == 0o700
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    with pytest.raises(DeviceError, match="not a folder of yours"), claim(1):
        pass


def test_steps_that_use_a_device_wait_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
    monkeypatch.setenv(GPUS, "1")
    watched = Watched()
    steps = [
        replace(make_step(name, action="device"), stage="tests.fake_device_stage") for name in "ab"
    ]
    execution = make_execution(tmp_path / "run", steps, tell=watched)
    with claim(1):
        thread = threading.Thread(target=execution.run_step, args=("a",))
        thread.start()
        until(lambda: "waiting" in watched.kinds("a"))
        assert "started" not in watched.kinds("a")
    thread.join()
    assert watched.kinds("a") == ["waiting", "started", "done"]
    assert (execution.prepared["a"].folder / "text").read_text() == "0"


def test_waiting_for_a_device_is_no_attempt(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_environment()["PYTHONPATH"])
    watched = Watched()
    step = replace(make_step("a"), stage="tests.fake_device_stage")
    execution = make_execution(tmp_path / "run", [step], tell=watched)
    with claim(2):
        stopper = threading.Timer(0.4, execution.stop.set)
        stopper.start()
        with pytest.raises(CancelledError, match="stopped while waiting for a device"):
            execution.run_step("a")
    assert watched.kinds("a") == ["waiting"]
    assert read_attempts(execution.run) == []
