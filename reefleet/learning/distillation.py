"""Losses over the exits of one sub-model: cross-entropy, and distillation from the best exit.

ReeFL section 3 and its released code; the KL term is divided by the number of students, which the
published code does not do, so that depth does not change its weight. Shapes: B batch, E exits.
Index-free forms only (comparisons, log-softmax), so that a trace never reads a value.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORE_DECAY = 0.8  # of the running loss that chooses the teacher; published value
DEEPEST_WEIGHT, DEEPEST_TEMPERATURE = 0.05, 3.0  # ScaleFL's published values


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the batch of values [B, ...], counting only rows whose mask [B] is 1."""
    rows = mask.reshape(-1, *[1] * (values.ndim - 1))
    return (values * rows).sum(0) / mask.sum()


def cross_entropy(logits: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy [E] of logits [B, E, classes] against label [B]."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    one_hot = (label[:, None] == classes).to(logits.dtype)  # [B, classes]
    log_probability = torch.log_softmax(logits, -1)
    return masked_mean(-(log_probability * one_hot[:, None]).sum(-1), mask)


def divergence(teacher: Tensor, student: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch, shape [E].

    Both sides are divided by T; QuPeD's published code divides the teacher alone.
    """
    target = torch.log_softmax(teacher / temperature, -1)
    guess = torch.log_softmax(student / temperature, -1)
    return masked_mean((target.exp() * (target - guess)).sum(-1), mask) * temperature**2


def running_score(score: Tensor, loss: Tensor) -> Tensor:
    """Running average [E] of each exit's loss; carried across rounds, unlike the published code."""
    return SCORE_DECAY * score + (1 - SCORE_DECAY) * loss.detach()


def best_exit(score: Tensor) -> Tensor:
    """One-hot [E] of the exit with the least running loss, the shallowest of equals."""
    exits = torch.arange(score.shape[0], device=score.device)
    return (exits == score.argmin(0)).to(score.dtype)


def from_best_exit(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean KL of the other exits from the teacher exit's detached logits; 0 for a single exit."""
    students = logits.shape[1] - 1
    if students == 0:
        return logits.new_zeros(())
    target = (logits * teacher[:, None]).sum(1, keepdim=True).detach()  # [B, 1, classes]
    return (divergence(target, logits, mask, 1.0) * (1 - teacher)).sum() / students


def from_best_exit_as_published(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The released code's form of `from_best_exit`: the sum over the students, not their mean."""
    return from_best_exit(logits, teacher, mask) * (logits.shape[1] - 1)


def among_all_exits(logits: Tensor, mask: Tensor) -> Tensor:
    """DepthFL's rule: KL over all ordered pairs of exits, teachers detached, over M - 1."""
    exits = logits.shape[1]
    if exits == 1:
        return logits.new_zeros(())
    pairs = [
        divergence(logits[:, index : index + 1].detach(), logits, mask, 1.0).sum()
        for index in range(exits)
    ]
    return torch.stack(pairs).sum() / (exits - 1)


def from_deepest_exit(logits: Tensor, mask: Tensor) -> Tensor:
    """ScaleFL's rule: 0.05 of the KL from the detached deepest exit, T = 3, to each other."""
    target = logits[:, -1:].detach()
    others = divergence(target, logits[:, :-1], mask, DEEPEST_TEMPERATURE)
    return DEEPEST_WEIGHT * others.sum()
