"""The same arithmetic on each of many tensors: in one call, or one by one where a trace watches.

Both give the same digits; a trace has to see operators that exist for one tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

Tensors = list[Tensor]

# PyTorch's own optimizers stand on these.
_torch: Any = torch


def clamped(values: Tensors, bound: float) -> Tensors:
    """Each clipped to [-bound, bound]."""
    if is_in_torch_dispatch_mode():
        return [value.clamp(-bound, bound) for value in values]
    risen = _torch._foreach_clamp_min(values, -bound)  # noqa: SLF001
    return list(_torch._foreach_clamp_max(risen, bound))  # noqa: SLF001


def scaled(values: Tensors, factor: Tensor | float) -> Tensors:
    """Each times `factor`."""
    if is_in_torch_dispatch_mode():
        return [factor * value for value in values]
    return list(_torch._foreach_mul(values, factor))  # noqa: SLF001


def added(values: Tensors, others: Tensors) -> Tensors:
    """Sums by pairs."""
    if is_in_torch_dispatch_mode():
        return [value + other for value, other in zip(values, others, strict=True)]
    return list(_torch._foreach_add(values, others))  # noqa: SLF001


def subtracted(values: Tensors, others: Tensors) -> Tensors:
    """Differences by pairs."""
    if is_in_torch_dispatch_mode():
        return [value - other for value, other in zip(values, others, strict=True)]
    return list(_torch._foreach_sub(values, others))  # noqa: SLF001
