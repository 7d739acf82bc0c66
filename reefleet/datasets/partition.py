"""Ways to split one set of samples over devices, as devices in the field would hold them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import DataTooSmall

ATTEMPTS = 1000

Indices = NDArray[np.int64]


def dirichlet_split(
    labels: NDArray[np.int64],
    devices: int,
    alpha: float,
    rng: np.random.Generator,
    least: int = 1,
) -> list[Indices]:
    """Give each device its sample indices [n]; every sample goes to exactly one device.

    Each class is shared out by a draw from Dirichlet(alpha): a small alpha gives each device few
    classes, a large one equal shares (Hsu, Qi and Brown 2019). Draws are repeated until each
    device holds at least `least` samples; raises DataTooSmall where that does not come about.
    """
    if devices < 1 or alpha <= 0:
        msg = f"cannot split over {devices} devices with alpha {alpha}; both must be positive"
        raise DataTooSmall(msg)
    if len(labels) >= devices * least:
        for _ in range(ATTEMPTS):
            shares = _draw(labels, devices, alpha, rng)
            if min(len(share) for share in shares) >= least:
                return shares
    msg = f"{len(labels)} samples do not give {devices} devices {least} each at alpha {alpha}"
    raise DataTooSmall(msg)


def _draw(
    labels: NDArray[np.int64], devices: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum(rng.dirichlet(np.full(devices, alpha)))[:-1] * len(members)
        for part, chunk in zip(parts, np.split(members, cuts.astype(np.int64)), strict=True):
            part.append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts] if len(labels) else []
