"""Losses over exits against plain computations."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from reefleet.learning.distillation import (
    best_exit,
    cross_entropy,
    divergence,
    from_best_exit,
    running_score,
)

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(6, 3, 5, generator=GENERATOR)  # B E classes
LABEL = torch.tensor([0, 4, 2, 2, 1, 3])
MASK = torch.tensor([1.0, 1, 1, 1, 0, 0])


def test_cross_entropy_counts_only_real_rows() -> None:
    expected = torch.stack([F.cross_entropy(LOGITS[:4, e], LABEL[:4]) for e in range(3)])
    torch.testing.assert_close(cross_entropy(LOGITS, LABEL, MASK), expected)


def test_divergence_divides_both_sides_by_the_temperature() -> None:
    teacher, student = LOGITS[:4, 0], LOGITS[:4, 1]
    expected = 9 * F.kl_div(
        F.log_softmax(student / 3, -1),
        F.log_softmax(teacher / 3, -1),
        log_target=True,
        reduction="batchmean",
    )
    found = divergence(LOGITS[:, :1], LOGITS[:, 1:2], MASK, 3.0)
    torch.testing.assert_close(found[0], expected)


def test_teacher_is_the_exit_with_the_least_running_loss() -> None:
    score = running_score(torch.tensor([1.0, 0.2, 0.9]), torch.tensor([0.1, 0.3, 0.1]))
    torch.testing.assert_close(score, torch.tensor([0.82, 0.22, 0.74]))
    assert best_exit(score).tolist() == [0, 1, 0]


def test_equal_scores_choose_one_teacher() -> None:
    assert best_exit(torch.zeros(3)).tolist() == [1, 0, 0]


def test_distillation_is_the_mean_over_students_and_spares_the_teacher() -> None:
    logits = LOGITS.clone().requires_grad_()
    teacher = torch.tensor([0.0, 1.0, 0.0])
    loss = from_best_exit(logits, teacher, torch.ones(6))
    parts = [
        F.kl_div(
            F.log_softmax(LOGITS[:, e], -1),
            F.log_softmax(LOGITS[:, 1], -1),
            log_target=True,
            reduction="batchmean",
        )
        for e in (0, 2)
    ]
    torch.testing.assert_close(loss.detach(), sum(parts) / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, 1].abs().max() < 1e-7
    assert logits.grad[:, 0].abs().max() > 0


def test_a_single_exit_has_nothing_to_learn_from() -> None:
    assert from_best_exit(LOGITS[:, :1], torch.ones(1), MASK) == 0
