"""What the planner reckons with: a device's own report, completed from the catalog.

What the device measured wins. What neither knows is taken from the least able board that the
catalog has in that respect, and `assumed` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from devices import catalog
from devices.board import Board
from devices.calibration import calibrate
from devices.cost import Rates
from devices.profile import DeviceProfile
from reefleet.errors import UnknownBoard

UNKNOWN_BOARD_SIGMA = 0.6


@dataclass(frozen=True, slots=True)
class Capability:
    """A device in the units of the cost model. `basis` says what its times rest on.

    `busy_w` is what it draws under load above idle, None where nobody measured both.
    """

    board: str
    memory_available_mib: int
    rates: Rates
    network_mbps: float
    wired: bool
    storage_free_bytes: int | None
    train_samples: int | None
    basis: str
    assumed: tuple[str, ...] = ()
    busy_w: float | None = None


def capability_of(profile: DeviceProfile) -> Capability:
    """Complete a profile; raises UnknownBoard where neither board nor probe tells enough."""
    board = _known(profile.board)
    memory, cores = profile.memory_available_mib, profile.cores
    assumed: list[str] = []
    if board is None and (memory is None or cores is None):
        missing = "free memory" if memory is None else "number of cores"
        msg = (
            f"board {profile.board!r} is not in the catalog and the device does not report its "
            f"{missing}; enroll it with a known board or let it be probed"
        )
        raise UnknownBoard(msg)
    if memory is None and board is not None:
        memory = catalog.available_mib(board)
        assumed.append(f"free memory {memory} MiB, as on the idle board")
    rates, basis = _rates(profile, board)
    if speed := calibrate(profile):
        rates = replace(rates, measured=speed, rel_sigma=speed.step_sigma)
        basis = f"the device's own benchmark of {len(profile.timings)} runs"
    network, wired = _network(profile, board, assumed)
    return Capability(
        board=profile.board or "unknown board",
        memory_available_mib=memory or 0,
        rates=rates,
        network_mbps=network,
        wired=wired,
        storage_free_bytes=profile.storage_free_bytes,
        train_samples=profile.train_samples,
        basis=basis,
        assumed=tuple(assumed),
        busy_w=_busy_w(board),
    )


def _known(name: str) -> Board | None:
    try:
        return catalog.find(name)
    except UnknownBoard:
        return None


def _rates(profile: DeviceProfile, board: Board | None) -> tuple[Rates, str]:
    scalar = _scalar_mips(board)
    memcpy = board.value("memcpy_gbs") if board else None
    prior = board.figures.get("vit_gflops") if board else None
    if board is None or prior is None:
        cores = profile.cores or int((board and board.value("cores")) or 1)
        isa = profile.isa or (board.isa if board else ())
        rate = cores * _least_rate_per_core(frozenset(isa))
        rates = Rates(rate, UNKNOWN_BOARD_SIGMA, 1.0, scalar, memcpy)
        return rates, "the slowest catalog board with such cores"
    speedup = (board.value("int8_speedup") or 1.0) if _has_int8_kernel(profile) else 1.0
    sigma = prior.rel_sigma if prior.rel_sigma is not None else UNKNOWN_BOARD_SIGMA
    return Rates(prior.value, sigma, speedup, scalar, memcpy), f"the catalog's prior for {board.id}"


def _busy_w(board: Board | None) -> float | None:
    if board is None:
        return None
    idle, load = board.value("idle_w"), board.value("load_w")
    return None if idle is None or load is None else max(0.0, load - idle)


def _has_int8_kernel(profile: DeviceProfile) -> bool:
    # A device that names no runtime has not been asked; the client itself needs onnxruntime.
    return not profile.runtimes or "onnxruntime" in profile.runtimes


def _least_rate_per_core(isa: frozenset[str]) -> float:
    """Slowest rate per core among the boards with the most of these features, or among all."""
    rates = [
        (prior / cores, frozenset(board.isa))
        for board in catalog.boards().values()
        if (prior := board.value("vit_gflops")) and (cores := board.value("cores"))
    ]
    alike = [(len(features), rate) for rate, features in rates if features <= isa]
    closest = max((count for count, _ in alike), default=0)
    same = [rate for count, rate in alike if count == closest]
    return min(same or [rate for rate, _ in rates])


def _scalar_mips(board: Board | None) -> float:
    if board and (mips := board.value("scalar_mips")):
        return mips
    scores = [
        (mips, mips / clock)
        for known in catalog.boards().values()
        if (mips := known.value("scalar_mips")) and (clock := known.value("clock_mhz"))
    ]
    if board and (clock := board.value("clock_mhz")):
        return clock * min(per_mhz for _, per_mhz in scores)
    return min(mips for mips, _ in scores)


def _network(profile: DeviceProfile, board: Board | None, assumed: list[str]) -> tuple[float, bool]:
    if profile.network_mbps is not None:
        return profile.network_mbps, bool(profile.wired)
    if board and profile.wired is False and (wireless := board.value("wifi_mbps")):
        return wireless, False
    if board and (wired := board.value("ethernet_mbps")):
        return wired, True
    if board and (wireless := board.value("wifi_mbps")):
        return wireless, False
    slowest = min(rate for known in catalog.boards().values() if (rate := known.value("wifi_mbps")))
    assumed.append(f"a {slowest:.0f} Mbit/s network, the slowest in the catalog")
    return slowest, False
