"""A run that is asked to stop says so in one line and leaves no process."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders_flows import is_alive, until
from tests.end_to_end.miniature import start, write_config


@pytest.fixture(autouse=True)
def heard_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_one_line(tmp_path: Path, sent: signal.Signals) -> None:
    out = tmp_path / "run"
    run = start(write_config(tmp_path), out, "--no-prefect")
    state = out / "state" / "render_scenes.json"
    until(state.exists, seconds=60)
    child = int(json.loads(state.read_text())["pid"])
    run.send_signal(sent)
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert printed.splitlines()[-1] == "error: stopped; run the same command again to go on"
    assert "Traceback" not in printed
    until(lambda: not is_alive(child))
