"""What an error or an exit status means for the next try."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from flows.child import smaller_config
from flows.errors import ConfigError, ExitStatus, exit_status, one_line
from flows.failures import judge, num_memory_kills, outcome_of
from flows.process import Ended
from oscar_core.metrics.errors import JavaProcessError
from storage.errors import MissingFileError, RecordError
from tests import fake_stage


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "place")


def too_much_for_torch() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    return caught.value


def too_much_for_numpy() -> MemoryError:
    with pytest.raises(MemoryError) as caught:
        np.zeros(1 << 60, dtype=np.uint8)
    return caught.value


def no_room_for_torch() -> RuntimeError:
    """torch.save closes its archive when the writing has failed already, which fails again."""
    with (
        pytest.raises((RuntimeError, OSError)) as caught,
        open("/dev/full", "wb", buffering=0) as full,
    ):
        torch.save({"weights": torch.zeros(1_000_000)}, full)
    return caught.value


def no_room_for_safetensors() -> Exception:
    """A file of one's own with a limit to its size, in a process of its own."""
    code = (
        "import resource, signal, torch, safetensors.torch as s\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "import tempfile, os\n"
        "folder = tempfile.mkdtemp()\n"
        "try: s.save_file({'w': torch.zeros(100_000)}, folder + '/w')\n"
        "except Exception as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return SafetensorError(ended.stdout.strip())


@pytest.mark.parametrize("make", [no_room_for_torch, no_room_for_safetensors])
def test_a_disk_that_is_full_for_a_library_is_tried_again(make: Callable[[], Exception]) -> None:
    error = make()
    assert exit_status(error) == ExitStatus.TRY_AGAIN, error
    assert "no space left to write" in one_line(error)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("x"), ExitStatus.BAD_CONFIG),
        (RecordError("x"), ExitStatus.BAD_INPUT),
        (MissingFileError("x"), ExitStatus.MISSING_INPUT),
        (os_error(errno.ENOENT), ExitStatus.MISSING_INPUT),
        (os_error(errno.EROFS), ExitStatus.BAD_INPUT),
        (os_error(errno.EACCES), ExitStatus.BAD_INPUT),
        (os_error(errno.ENOSPC), ExitStatus.TRY_AGAIN),
        (os_error(errno.EIO), ExitStatus.TRY_AGAIN),
        (os_error(errno.ENOMEM), ExitStatus.OUT_OF_MEMORY),
        (MemoryError(), ExitStatus.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), ExitStatus.OUT_OF_MEMORY),
        (too_much_for_torch(), ExitStatus.OUT_OF_MEMORY),
        (too_much_for_numpy(), ExitStatus.OUT_OF_MEMORY),
        (ConnectionResetError("x"), ExitStatus.LOST),
        (TimeoutError("x"), ExitStatus.LOST),
        (torch.distributed.DistBackendError("NCCL error in ..."), ExitStatus.LOST),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:2"), ExitStatus.LOST),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), 69),
        (JavaProcessError("METEOR's Java process ended (status -9)"), ExitStatus.LOST),
        (BrokenProcessPool("A process in the process pool was terminated"), ExitStatus.LOST),
        (RuntimeError("CUDA error: device-side assert triggered"), ExitStatus.CRASHED),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ExitStatus.CRASHED),
        (ValueError("Connection closed by peer"), ExitStatus.CRASHED),
    ],
)
def test_an_error_has_an_exit_status(error: Exception, status: int) -> None:
    assert exit_status(error) == status
    assert "\n" not in one_line(error)


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        (MemoryError(), ExitStatus.OUT_OF_MEMORY),
        (os_error(errno.ENOSPC), ExitStatus.TRY_AGAIN),
        (ConnectionRefusedError("the store"), ExitStatus.LOST),
        (os_error(errno.ENOENT), ExitStatus.BAD_INPUT),
    ],
)
def test_an_error_made_of_a_passing_one_passes(cause: Exception, status: int) -> None:
    error = RecordError("shard 3: cannot be written")
    error.__cause__ = cause
    assert exit_status(error) == status


@pytest.mark.parametrize(
    ("status", "said", "was_memory_short", "outcome"),
    [
        (-9, "", True, "out of memory"),
        (-9, "", None, "out of memory"),
        (-9, "", False, "killed"),
        (137, "out of memory; lower ...", False, "out of memory"),
        (137, "", False, "killed"),
        (-11, "", False, "crashed"),
        (134, "", False, "crashed"),
        (-15, "", False, "preempted"),
        (143, "", False, "preempted"),
        (69, "gone", False, "lost"),
        (75, "full", False, "temporary"),
        (65, "bad", False, "bad input"),
        (66, "gone", False, "missing input"),
        (78, "bad", False, "bad configuration"),
        (1, "bug", False, "failed"),
        (3, "", False, "crashed"),
    ],
)
def test_an_exit_status_has_a_word(
    status: int, said: str, was_memory_short: bool | None, outcome: str
) -> None:
    assert outcome_of(status, said, was_memory_short=was_memory_short) == outcome


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(1, True), (65, True), (66, True), (78, True), (75, False), (-9, False)],
)
def test_only_what_stays_is_final(status: int, is_final: bool) -> None:
    ended = Ended(status=status, cut="", seconds=1.0, last_lines=())
    failure = judge(ended, said="", log=Path("log"), was_memory_short=False, times_killed=0)
    assert failure.is_final == is_final


def test_the_kernel_tells_how_often_memory_was_short() -> None:
    number = num_memory_kills()
    assert number is None or number >= 0


def test_a_stage_may_say_itself_how_it_shrinks() -> None:
    config = fake_stage.Config(batch_size=8)
    assert smaller_config(fake_stage, config, 0) == config
    assert smaller_config(fake_stage, config, 2).batch_size == 2
    assert smaller_config(fake_stage, config, 9).batch_size == 1
    own = SimpleNamespace(SHRINKABLE=("batch_size",), shrunk=lambda config, halvings: halvings)
    assert smaller_config(own, config, 3) == 3  # type: ignore[arg-type]
