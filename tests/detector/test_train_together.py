"""Several processes of one training: what they learn is what one would."""

import json
import multiprocessing
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from detector.checkpoints import WEIGHTS_NAME
from detector.errors import DetectorError
from detector.training.config import DetectorTraining
from detector.training.photos import label_map_from
from detector.training.together import Together
from detector.training.train import train_detector
from tests.builders_detector import tiny_config
from tests.builders_scenes import block_photos
from tests.detector_training_process import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.detector_training_process"])


def train(folder: Path, num: int, *, stop_at: int = 0, damaged: int = -1, **changes: Any) -> None:
    """Train in so many processes; a training that is asked to stop fails, as it should."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": str(num), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if Path("/sys/class/net/lo").exists():
        place["GLOO_SOCKET_IFNAME"] = "lo"
    processes = []
    for rank in range(num):
        mine = place | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        given = (folder, mine, changes, stop_at, damaged)
        processes.append(_CONTEXT.Process(target=main, args=given))
        processes[-1].start()
    for rank, process in enumerate(processes):
        process.join(timeout=120)
        said = (folder / f"stderr{rank}").read_text()
        assert process.exitcode == (1 if stop_at else 0), said[-2000:]
        assert not stop_at or f"stopped after step {stop_at} of" in said


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "detector" / WEIGHTS_NAME)


def losses_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [{}, {"cache_trunk": True, "balance": "both", "balance_below": 0.9, "optimiser": "adamw"}],
)
def test_two_processes_learn_what_one_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = {"learning_rate": 1e-3} | changes
    train(tmp_path / "one", 1, **changes)
    train(tmp_path / "two", 2, **changes)
    one, two = losses_in(tmp_path / "one"), losses_in(tmp_path / "two")
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        numbers = {name: each for name, each in mine.items() if name != "phase"}
        assert numbers == pytest.approx({name: theirs[name] for name in numbers}, abs=2e-5)
    before, after = weights_in(tmp_path / "one"), weights_in(tmp_path / "two")
    for name, value in before.items():
        assert value.allclose(after[name], atol=2e-5), name


def test_stopped_together_they_end_with_the_same_bits(tmp_path: Path) -> None:
    train(tmp_path / "whole", 2)
    train(tmp_path / "stopped", 2, stop_at=3)
    train(tmp_path / "stopped", 2)
    whole, stopped = weights_in(tmp_path / "whole"), weights_in(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert losses_in(tmp_path / "whole") == losses_in(tmp_path / "stopped")


def test_what_one_process_began_two_may_end(tmp_path: Path) -> None:
    train(tmp_path / "whole", 1)
    train(tmp_path / "shared", 1, stop_at=3)
    train(tmp_path / "shared", 2)
    whole, shared = weights_in(tmp_path / "whole"), weights_in(tmp_path / "shared")
    for name, value in whole.items():
        assert value.allclose(shared[name], atol=2e-4), name
    assert [row["step"] for row in losses_in(tmp_path / "shared")] == list(range(1, 7))


@pytest.mark.parametrize("changes", [{}, {"cache_trunk": True}])
def test_a_photo_that_proves_unreadable_is_told_whoever_met_it(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    train(tmp_path / "run", 2, damaged=4, pixel_cache_bytes=0, num_steps=6, **changes)
    assert [(tmp_path / f"run/told{rank}").read_text() for rank in (0, 1)] == [
        "6 blocks/train-4",
        "6 blocks/train-4",
    ]


@pytest.mark.parametrize(
    ("norm", "said"), [("frozen", "2 processes train together, a step has 1"), ("batch", "live")]
)
def test_what_cannot_be_divided_is_refused(tmp_path: Path, norm: str, said: str) -> None:
    sources, objects = block_photos(tmp_path / "photos", 2)
    with pytest.raises(DetectorError, match=said):
        train_detector(
            config=tiny_config(norm=norm),
            training=DetectorTraining(num_steps=1),
            sources=sources,
            objects=objects,
            label_map=label_map_from(objects),
            folder=tmp_path / "detector",
            losses=tmp_path / "losses.jsonl",
            together=Together(num=2),
        )
