"""A training of two processes, killed again and again, ends with the bits of an undisturbed one."""

import random
from pathlib import Path

import pytest

from tests.training_processes import kill_behind, rows_of, train

STEPS = 300
KILLS = 10
HOW = {
    "task": "pretraining",
    "dropout": 0.1,
    "steps": STEPS,
    "checkpoint_every": 7,
    "ema": 0.99,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_ten_random_moments_it_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"moments drawn with seed {seed}")  # shown when it fails
    dice = random.Random(seed)
    train(tmp_path / "unbroken", 2, **HOW)
    broken, killed = tmp_path / "broken", []
    for step in sorted(dice.sample(range(1, STEPS), KILLS)):
        killed.append(kill_behind(broken, 2, step, lambda: dice.uniform(0, 0.05), **HOW))
        (broken / "step").unlink()
    train(broken, 2, **HOW)
    print(f"killed behind updates {killed}, went on from {(broken / 'resumed_at').read_text()}")
    assert int((broken / "resumed_at").read_text()) > 0
    for name in ("model/model.safetensors", "losses.jsonl"):
        assert (broken / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    assert [row["step"] for row in rows_of(broken)] == list(range(1, STEPS + 1))
