"""The same examples, losses and weights, however many processes train together."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training_processes import kill_behind, rows_of, train, training

AVERAGED: dict[str, Any] = {
    "task": "pretraining",
    "steps": 6,
    "averaging": "batch",
    "batch_size": 8,
}


def assert_alike(one: Path, other: Path) -> None:
    """Losses and weights equal up to rounding."""
    assert len(rows_of(one)) == len(rows_of(other))
    for first, second in zip(rows_of(one), rows_of(other), strict=True):
        for name, value in first.items():
            if name != "phase":
                assert second[name] == pytest.approx(value, abs=1e-4, rel=1e-4), (name, first)
    weights, others = (load_file(each / "model/model.safetensors") for each in (one, other))
    assert set(weights) == set(others)
    for name, value in weights.items():
        if "key.bias" not in name:  # its gradient is rounding noise
            assert value.allclose(others[name], atol=1e-4), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process learns."""
    folder = tmp_path_factory.mktemp("alone")
    train(folder, 1, **AVERAGED)
    return folder


@pytest.mark.parametrize("num", [2, 4])
def test_more_processes_learn_the_same(alone: Path, tmp_path: Path, num: int) -> None:
    train(tmp_path, num, **AVERAGED)
    assert_alike(alone, tmp_path)


def test_parts_learn_the_same(alone: Path, tmp_path: Path) -> None:
    train(tmp_path, 2, accumulation=2, **AVERAGED)
    assert_alike(alone, tmp_path)


@pytest.mark.slow
def test_captions_are_learned_alike_by_two(tmp_path: Path) -> None:
    how = AVERAGED | {"task": "captioning"}
    train(tmp_path / "one", 1, **how)
    train(tmp_path / "two", 2, **how)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_killed_with_two_processes_it_goes_on_with_one(
    alone: Path, tmp_path: Path, sharding: str
) -> None:
    kill_behind(tmp_path, 2, 5, lambda: 0.0, sharding=sharding, **AVERAGED)
    train(tmp_path, 1, **AVERAGED)
    assert (tmp_path / "resumed_at").read_text() in ("2", "4")
    assert_alike(alone, tmp_path)


def test_sharded_weights_learn_the_same(alone: Path, tmp_path: Path) -> None:
    how = {"sharding": "fsdp2", "ema": 0.5, "writes_ema": False}
    train(tmp_path, 2, **how, **AVERAGED)
    assert_alike(alone, tmp_path)


def test_sharded_and_killed_it_ends_as_unbroken(tmp_path: Path) -> None:
    how = AVERAGED | {"sharding": "fsdp2", "ema": 0.5, "dropout": 0.1}
    train(tmp_path / "unbroken", 2, **how)
    kill_behind(tmp_path / "broken", 2, 5, lambda: 0.0, **how)
    train(tmp_path / "broken", 2, **how)
    for name in ("model/model.safetensors", "losses.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (
            tmp_path / "unbroken" / name
        ).read_bytes()


def test_asked_to_stop_nobody_leaves_before_the_checkpoint_is_whole(tmp_path: Path) -> None:
    with training(tmp_path, 2, stop_at=3, checkpoint_every=0) as processes:
        for process in processes:
            process.join(timeout=280)
    for rank in (0, 1):
        assert (tmp_path / f"left{rank}").read_text() == "checkpoint-0000003.safetensors"


def test_workers_change_nothing(alone: Path, tmp_path: Path) -> None:
    train(tmp_path, 1, workers=2, **AVERAGED)
    for name in ("model/model.safetensors", "losses.jsonl"):
        assert (tmp_path / name).read_bytes() == (alone / name).read_bytes()
