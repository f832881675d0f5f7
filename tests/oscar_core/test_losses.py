"""Losses where the recorded cases leave a choice, and where ours differ on purpose."""

import math

import pytest
import torch

from oscar_core.compat import LossCompat
from oscar_core.errors import ModelConfigError
from oscar_core.losses import (
    CaptionLoss,
    answer_loss,
    caption_accuracy,
    caption_loss,
    cross_entropy,
)


def logits(rows: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def test_labels_of_minus_one_are_left_out() -> None:
    values = logits(3, 4)
    some = cross_entropy(values, torch.tensor([2, -1, 0]))
    alone = cross_entropy(values[[0, 2]], torch.tensor([2, 0]))
    assert some.item() == pytest.approx(alone.item())


def test_nothing_to_learn_costs_nothing_and_leaves_gradients_finite() -> None:
    values = logits(2, 4).requires_grad_()
    loss = cross_entropy(values, torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad is not None
    assert not values.grad.any()


def test_the_original_gives_nan_there() -> None:
    compat = LossCompat(gives_nan_without_masks=True)
    assert cross_entropy(logits(2, 4), torch.tensor([-1, -1]), compat).isnan()


def test_divergence_uses_labels_as_they_are_even_if_they_do_not_sum_to_one() -> None:
    values, labels = logits(2, 3), torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.0, 0.3]])
    log_p = values.log_softmax(dim=-1)
    parts = [
        label * (math.log(label) - log_p[row, column].item())
        for row, line in enumerate(labels.tolist())
        for column, label in enumerate(line)
        if label > 0
    ]
    assert answer_loss(values, labels, "kl").item() == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_the_original_reads_the_divergence_by_3129_classes() -> None:
    values, labels = logits(2, 3 * 1043), torch.rand(2, 3129)
    compat = LossCompat(reads_kl_by_3129=True)
    assert answer_loss(values, labels, "kl", compat) == answer_loss(values, labels, "kl")
    with pytest.raises(RuntimeError):
        answer_loss(logits(2, 3), torch.rand(2, 3), "kl", compat)


def test_bce_sums_over_classes_and_averages_over_examples() -> None:
    values = torch.zeros(2, 5)
    assert answer_loss(values, torch.rand(2, 5), "bce").item() == pytest.approx(5 * math.log(2))


@pytest.mark.parametrize("kind", ["cross_entropy", "bce", "kl"])
def test_one_output_is_fitted_by_squared_error_whatever_was_asked(kind: str) -> None:
    loss = answer_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]), kind)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx((1 + 4) / 2)


def word_losses(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes; word n costs log(1 + e^n)."""
    values = torch.stack([torch.zeros(count), torch.arange(count, dtype=torch.float32)], dim=1)
    return values, torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize(("count", "ratio", "kept"), [(8, 0.3, 5), (7, 0.2, 5), (9, 0.2, 7)])
def test_the_count_of_kept_words_is_cut_not_rounded(count: int, ratio: float, kept: int) -> None:
    """5.6, 5.6 and 7.2."""
    settings = CaptionLoss(drop_worst_ratio=ratio)
    found = caption_loss(*word_losses(count), settings, number=1)
    best = [math.log1p(math.exp(n)) for n in range(kept)]
    assert found.item() == pytest.approx(sum(best) / kept, rel=1e-5)


def test_words_are_dropped_only_after_the_update_that_was_named() -> None:
    settings = CaptionLoss(drop_worst_ratio=0.5, drop_worst_after=3)
    values = word_losses(4)
    whole = caption_loss(*values, settings, number=3)
    assert whole == caption_loss(*values, CaptionLoss(), number=99)
    assert caption_loss(*values, settings, number=4) < whole


def test_one_word_is_always_kept() -> None:
    settings = CaptionLoss(drop_worst_ratio=0.9)
    found = caption_loss(*word_losses(3), settings, number=1)
    assert found.item() == pytest.approx(math.log(2))


def test_the_original_may_drop_every_word() -> None:
    settings = CaptionLoss(drop_worst_ratio=0.9)
    compat = LossCompat(may_drop_every_word=True)
    assert caption_loss(*word_losses(3), settings, number=1, compat=compat).isnan()


def test_smoothing_takes_the_entropy_of_the_target_out() -> None:
    """The best possible answer costs nothing."""
    smoothing, size = 0.2, 5
    target = torch.full((1, size), smoothing / (size - 1))
    target[0, 3] = 1 - smoothing
    settings = CaptionLoss(label_smoothing=smoothing)
    loss = caption_loss(target.log(), torch.tensor([3]), settings, number=1)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_smoothed_loss_is_the_divergence_written_out() -> None:
    values, targets, smoothing = logits(4, 6), torch.tensor([0, 5, 2, 2]), 0.1
    target = torch.full((4, 6), smoothing / 5)
    target[range(4), targets] = 1 - smoothing
    plain = (target * (target.log() - values.log_softmax(dim=-1))).sum(dim=-1).mean()
    found = caption_loss(values, targets, CaptionLoss(label_smoothing=smoothing), number=1)
    assert found.item() == pytest.approx(plain.item(), rel=1e-5)


def test_no_masked_word_costs_nothing() -> None:
    found = caption_loss(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), CaptionLoss(), number=1
    )
    assert found.item() == 0.0
    assert caption_accuracy(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 0.0


@pytest.mark.parametrize("name", ["label_smoothing", "drop_worst_ratio"])
@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_shares_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ModelConfigError, match=name):
        CaptionLoss(**{name: value})  # type: ignore[arg-type]
