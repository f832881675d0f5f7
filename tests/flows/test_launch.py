"""The command of a child, alone or one of several; how each process ended."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.launch import child_command
from flows.ranks import (
    exits_folder,
    forget_exits,
    is_writer,
    local_rank,
    rank,
    world,
    worst_exit,
    write_exit,
)
from flows.scale import Scale
from tests.builders_flows import PYTHON, python_environment, until

REQUEST = Path("run/state/train.request.json")
TORCHRUN = {"torchrun": ""}


def test_a_stage_that_cannot_be_spread_gets_one_process() -> None:
    scale = Scale(engine="torchrun", workers=4)
    alone = [sys.executable, "-u", "-m", "flows.child", str(REQUEST)]
    assert child_command(None, scale, REQUEST) == alone
    assert child_command({"ray": "somewhere"}, scale, REQUEST) == alone
    assert child_command(TORCHRUN, Scale(engine="ray", workers=4), REQUEST) == alone


def test_one_worker_needs_no_torchrun() -> None:
    command = child_command(TORCHRUN, Scale(engine="torchrun", workers=1), REQUEST)
    assert "flows.orchestration.torchrun" not in command


def test_several_workers_meet_on_this_machine_alone() -> None:
    command = child_command(TORCHRUN, Scale(engine="torchrun", workers=3), REQUEST)
    assert command[3] == "flows.orchestration.torchrun"
    assert {"--nproc-per-node=3", "--nnodes=1", "--rdzv-backend=loopback"} <= set(command)
    assert "--max-restarts=0" in command
    assert command[-3:] == ["-m", "flows.child", str(REQUEST)]


def test_several_machines_meet_at_the_rendezvous() -> None:
    scale = Scale(engine="torchrun", workers=1, nodes=2, node_rank=1, rendezvous="10.0.0.5:4300")
    command = child_command(TORCHRUN, scale, REQUEST)
    assert {
        "--nnodes=2",
        "--node-rank=1",
        "--rdzv-backend=static",
        "--master-addr=10.0.0.5",
        "--master-port=4300",
    } <= set(command)


def test_torchrun_understands_the_options() -> None:
    from torch.distributed.run import parse_args

    for scale in (
        Scale(engine="torchrun", workers=2),
        Scale(engine="torchrun", nodes=2, rendezvous="a:1"),
    ):
        options = parse_args(child_command(TORCHRUN, scale, REQUEST)[4:])
        assert (options.module, options.max_restarts) == (True, 0)
        assert options.training_script == "flows.child"
        assert options.training_script_args == [str(REQUEST)]


def test_workers_of_one_machine_meet_where_no_other_machine_reaches() -> None:
    from torch.distributed.elastic.rendezvous import (
        RendezvousParameters,
        rendezvous_handler_registry,
    )

    from flows.orchestration.loopback import NAME, register

    register()
    handler = rendezvous_handler_registry.create_handler(
        RendezvousParameters(NAME, "127.0.0.1", "some", 1, 1)
    )
    found = handler.next_rendezvous()
    found.store.set("word", "said")
    port = f":{found.bootstrap_store_info.master_port:04X}"
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(port) and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F{port}"]


def test_workers_share_the_threads_of_their_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.orchestration.torchrun import share_threads

    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    share_threads(2)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]) == ("2", "1")
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def test_without_torchrun_a_process_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (rank(), world(), local_rank(), is_writer()) == (0, 1, 0, True)


def test_one_process_of_each_machine_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert is_writer()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_writer()


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        ((75, 65), 65),  # connection lost, because the other found a bad row
        ((143, 137), 137),  # ended by the agent, because the other ran out of memory
        ((75, -9), -9),
        ((1, -9), -9),
        ((75, 1), 1),
        ((143, 75), 75),
        ((0, 143), 143),
    ],
)
def test_the_process_to_blame_counts(tmp_path: Path, statuses: tuple[int, int], worst: int) -> None:
    for number, status in enumerate(statuses):
        write_exit(tmp_path, status, f"line of {number}", number=number)
    assert worst_exit(tmp_path) == (worst, f"line of {statuses.index(worst)}")


def test_what_a_process_wrote_itself_stays(tmp_path: Path) -> None:
    write_exit(tmp_path, 65, "row 3 is bad", number=1)
    write_exit(tmp_path, 1, "", number=1)  # the agent knows less
    assert worst_exit(tmp_path) == (65, "row 3 is bad")
    forget_exits(tmp_path)
    assert worst_exit(tmp_path) is None


def test_a_damaged_entry_is_none(tmp_path: Path) -> None:
    (tmp_path / "exit.rank0.json").write_text('{"status": ')
    assert worst_exit(tmp_path) is None


def test_steps_that_run_side_by_side_do_not_mix_their_exits() -> None:
    assert exits_folder(REQUEST) != exits_folder(REQUEST.with_name("detect.request.json"))


def test_a_process_learns_of_its_launchers_death(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from flows.ranks import watch_launcher\n"
        "watch_launcher(lambda: Path(sys.argv[1], 'gone').touch())\n"
        "Path(sys.argv[1], 'ready').touch()\n"
        "time.sleep(20)\n"
    )
    launcher = subprocess.Popen(
        ["/bin/sh", "-c", '"$0" -c "$1" "$2" & echo $!; wait', PYTHON, code, str(tmp_path)],
        env=python_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    worker = int(launcher.stdout.readline())
    try:
        until(lambda: (tmp_path / "ready").exists())
        assert not (tmp_path / "gone").exists()
        launcher.kill()
        launcher.wait()
        until(lambda: (tmp_path / "gone").exists(), seconds=5)
    finally:
        os.kill(worker, 9)
        launcher.stdout.close()
