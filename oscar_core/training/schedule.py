"""The learning rate's factor at each update."""

from oscar_core.training.config import TrainingConfig


def rate_factor(config: TrainingConfig, step: int, num_steps: int) -> float:
    """Factor on the learning rate of update `step` (0-based) of `num_steps`.

    With w warm-up steps: step / w before them. "linear" then is
    (num_steps - step) / (num_steps - w): the first update without warm-up has the full rate, the
    last 1 / num_steps of it. "hold" stays at 1 for `hold` of all steps, then falls to `floor`.

    Source: `pt/optimization.py:WarmupLinearSchedule`; optimiser before scheduler
    (specs/oscar.md 11, Q5) unless `compat.schedules_before_update`.
    """
    if config.compat.schedules_before_update:
        step += 1
    warmup = config.warmup_steps(num_steps)
    if step < warmup:
        return step / max(1, warmup)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "linear":
        return max(0.0, (num_steps - step) / max(1, num_steps - warmup))
    turn = max(warmup, round(config.hold * num_steps))
    if step < turn:
        return 1.0
    return max(config.floor, 1 - (1 - config.floor) * (step - turn) / max(1, num_steps - turn))
