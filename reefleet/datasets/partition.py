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


def iid_split(count: int, devices: int, rng: np.random.Generator) -> list[Indices]:
    """Equal shares of a shuffle; raises DataTooSmall where a device would get nothing."""
    if not 0 < devices <= count:
        msg = f"cannot split {count} samples over {devices} devices"
        raise DataTooSmall(msg)
    return [np.sort(share) for share in np.array_split(rng.permutation(count), devices)]


def classes_split(
    labels: NDArray[np.int64], devices: int, classes: int, rng: np.random.Generator
) -> list[Indices]:
    """Each device gets `classes` classes; those who hold a class share its samples equally.

    Classes are dealt in turn from shuffled decks, so that all are held nearly equally often.
    Raises DataTooSmall where a class has fewer samples than holders.
    """
    known = np.unique(labels)
    if not 0 < classes <= len(known):
        msg = f"each device cannot hold {classes} of {len(known)} classes"
        raise DataTooSmall(msg)
    held = _dealt(known, devices, classes, rng)
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for label in known:
        holders = [device for device in range(devices) if int(label) in held[device]]
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < len(holders):
            msg = f"class {label} has {len(members)} samples for {len(holders)} devices"
            raise DataTooSmall(msg)
        for holder, chunk in zip(holders, np.array_split(members, max(1, len(holders)))):  # noqa: B905  # a class that nobody holds leaves its samples out
            parts[holder].append(chunk)
    return [np.sort(np.concatenate(part)) for part in parts]


def natural_split(
    clients: NDArray[np.int64], devices: int, rng: np.random.Generator, least: int = 1
) -> list[Indices]:
    """One device a writer or speaker: `devices` drawn from those with `least` samples or more."""
    names, counts = np.unique(clients, return_counts=True)
    able = names[counts >= least]
    if not 0 < devices <= len(able):
        msg = f"{len(able)} clients have {least} samples or more; {devices} are asked for"
        raise DataTooSmall(msg)
    chosen = np.sort(rng.permutation(able)[:devices])
    return [np.flatnonzero(clients == name) for name in chosen]


def quantity_split(
    count: int, devices: int, alpha: float, rng: np.random.Generator, least: int = 1
) -> list[Indices]:
    """Same classes everywhere, amounts from Dirichlet(alpha) above a floor of `least`."""
    spare = count - devices * least
    if devices < 1 or alpha <= 0 or spare < 0:
        msg = f"{count} samples do not give {devices} devices {least} each at alpha {alpha}"
        raise DataTooSmall(msg)
    sizes = least + np.floor(rng.dirichlet(np.full(devices, alpha)) * spare).astype(np.int64)
    return [
        np.sort(share) for share in np.split(rng.permutation(count), np.cumsum(sizes))[:devices]
    ]


def noisy(
    images: NDArray[np.uint8], deviation: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Feature noise: Gaussian, `deviation` in units of the full range 255."""
    if not deviation:
        return images
    moved = images + rng.standard_normal(images.shape, np.float32) * np.float32(255 * deviation)
    rounded: NDArray[np.uint8] = np.rint(moved.clip(0, 255)).astype(np.uint8)
    return rounded


def _dealt(
    known: NDArray[np.int64], devices: int, classes: int, rng: np.random.Generator
) -> list[set[int]]:
    held: list[set[int]] = []
    deck: list[int] = []
    for _ in range(devices):
        hand: set[int] = set()
        while len(hand) < classes:
            if not (fresh := [card for card in deck if card not in hand]):
                deck += [int(card) for card in rng.permutation(known)]
                continue
            hand.add(fresh[0])
            deck.remove(fresh[0])
        held.append(hand)
    return held


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
