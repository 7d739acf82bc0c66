"""A command under a board's memory, processor share and link rate, on a machine that is no board.

What may be claimed of it: protocol, deadlines, memory limits, slow links, the order of boards. Not
latency, energy, heat, caches or bandwidth: a quota is time dilation of this machine's processor.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from devices import catalog
from devices.board import Board
from devices.reaper import Leftovers, watched
from devices.tree import Tree
from reefleet.errors import ReefleetError, RuntimeUnavailable

GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 10_000  # short, so that latency under the quota keeps one mode
LEAST_QUOTA_US = 1_000
LONG_PERIOD_US = 100_000
MAPPED_MIB = 1024  # libraries map more than they hold; the fallback bounds address space
TBF = ("burst", "32kbit", "latency", "400ms")
MOST_LINKS = 200
_PR_SET_PDEATHSIG = 1
_MIB = 1 << 20


class OutOfBoardMemory(ReefleetError):
    """The emulated board's memory was exceeded and the kernel ended the command."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to emulate: memory, processor share in cores of this machine, link rate."""

    board: str
    memory_mib: int
    cpus: float | None = None
    link_mbps: float | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine permits: folders of control groups below our own, network namespaces."""

    memory: Path | None = None
    cpu: Path | None = None
    link: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the command ended; the peak is None where nobody counted."""

    code: int
    peak_mib: int | None = None


def wanted(
    board: Board, host_ms: float | None, board_ms: float, *, link: bool, nominal_mib: int = 0
) -> Wanted:
    """What a board has: free memory, the share that makes this machine as slow, the link's rate.

    `host_ms` and `board_ms` are times of one piece of work on one core here and on the board.
    """
    rate = board.value("wifi_mbps") or board.value("ethernet_mbps")
    if board.value("ethernet_mbps"):
        rate = board.value("ethernet_mbps")
    share = None if host_ms is None else min(1.0, host_ms / board_ms)
    memory = catalog.available_mib(board, nominal_mib)
    return Wanted(board.id, memory, share, rate if link else None)


def means(groups: Path = GROUPS, tree: Tree | None = None) -> Means:
    """What can be done here, tried and undone: the own groups' children, and namespaces."""
    tree = tree or Tree()
    found: dict[str, Path] = {}
    for line in tree.lines("proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in {"memory", "cpu"} & set(controllers.split(",")):
            own = groups / controllers / path.lstrip("/")
            if _is_writable(own):
                found[name] = own
    able = shutil.which("ip") and shutil.which("tc") and os.geteuid() == 0
    return Means(found.get("memory"), found.get("cpu"), bool(able))


def described(wish: Wanted, able: Means) -> tuple[str, ...]:
    """Sentences that say exactly what is emulated here, how, and what is not."""
    lines = []
    if able.memory:
        lines.append(f"memory: {wish.memory_mib} MiB by a control group, killed beyond it")
    else:
        bound = wish.memory_mib + MAPPED_MIB
        lines.append(f"memory: {bound} MiB of address space a process, not resident memory")
    if wish.cpus is None:
        lines.append("processor: not emulated, its speed here was not measured")
    elif able.cpu:
        dilation = f"time dilated {1 / wish.cpus:.1f} times"
        lines.append(f"processor: {wish.cpus:.1%} of one core here by a quota, {dilation}")
    else:
        lines.append("processor: not emulated, no control group can be made here")
    if wish.link_mbps is None:
        lines.append("link: not emulated; --link puts the command behind one of the board's rate")
    elif able.link:
        lines.append(f"link: {wish.link_mbps:g} Mbit/s each way, no added delay or loss")
    else:
        lines.append("link: not emulated, network namespaces are not permitted here")
    lines.append("not emulated anywhere: instruction set, caches, memory bandwidth, GPU, heat")
    return tuple(lines)


def run(
    command: Sequence[str], wish: Wanted, able: Means, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run a command to its end; everything made for it is gone afterwards, even if we are killed.

    Raises OutOfBoardMemory, or RuntimeUnavailable where the command cannot be started.
    """
    left = _leftovers(wish, able)
    with watched(left), _forwarding() as tell:
        groups = [_made(group, wish, name) for name, group in left.groups.items()]
        prefix = _linked(left, wish) if left.namespace else []
        host = {"REEFLEET_HOST": _address(left.namespace, 1)} if left.namespace else {}
        process = _started(
            [*prefix, *command],
            _entering(groups, None if able.memory else wish.memory_mib),
            {**os.environ, **(environment or {}), **host, "REEFLEET_EMULATED": wish.board},
        )
        tell(process)
        code = process.wait()
        peak, killed = _counted(left.groups.get("memory"))
    if killed and code == -signal.SIGKILL:
        msg = f"the command was ended: {wish.board} has {wish.memory_mib} MiB, and it took more"
        raise OutOfBoardMemory(msg)
    return Outcome(code, peak)


def _leftovers(wish: Wanted, able: Means) -> Leftovers:
    name = f"reefleet-{os.getpid()}"
    groups = {}
    if able.memory:
        groups["memory"] = able.memory / name
    if able.cpu and wish.cpus is not None:
        groups["cpu"] = able.cpu / name
    linked = able.link and wish.link_mbps is not None
    return Leftovers(groups, f"rf{os.getpid()}" if linked else "")


def _made(group: Path, wish: Wanted, name: str) -> Path:
    group.mkdir()
    if name == "memory":
        (group / "memory.limit_in_bytes").write_text(str(wish.memory_mib * _MIB))
    else:
        share = wish.cpus or 1.0
        period = PERIOD_US if share * PERIOD_US >= LEAST_QUOTA_US else LONG_PERIOD_US
        (group / "cpu.cfs_period_us").write_text(str(period))
        (group / "cpu.cfs_quota_us").write_text(str(max(LEAST_QUOTA_US, int(share * period))))
    return group


def _linked(left: Leftovers, wish: Wanted) -> list[str]:
    """Make the namespace and its link; gives what to put before the command."""
    name = left.namespace
    inner, rate = f"{name}c", f"{wish.link_mbps or 1.0:g}mbit"
    inside = ["ip", "netns", "exec", name]
    for step in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", name, "type", "veth", "peer", "name", inner],
        ["ip", "link", "set", inner, "netns", name],
        ["ip", "addr", "add", f"{_address(name, 1)}/30", "dev", name],
        ["ip", "link", "set", name, "up"],
        [*inside, "ip", "addr", "add", f"{_address(name, 2)}/30", "dev", inner],
        [*inside, "ip", "link", "set", inner, "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
        ["tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", rate, *TBF],
        [*inside, "tc", "qdisc", "add", "dev", inner, "root", "tbf", "rate", rate, *TBF],
    ):
        done = subprocess.run(step, check=False, capture_output=True, text=True)
        if done.returncode:
            msg = f"the link cannot be emulated: {' '.join(step)}: {done.stderr.strip()}"
            raise RuntimeUnavailable(msg)
    return inside


def _address(namespace: str, end: int) -> str:
    number = int(namespace.removeprefix("rf") or 0) % (64 * MOST_LINKS)
    return f"10.77.{number // 64}.{number % 64 * 4 + end}"


def _entering(groups: Sequence[Path], address_mib: int | None) -> Callable[[], None]:
    """What the child does before it becomes the command: enter groups, take limits, die with us.

    It runs between fork and exec, which is safe here because this process has one thread.
    """

    def enter() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for group in groups:
            (group / "cgroup.procs").write_text(str(os.getpid()))
        if address_mib is not None:
            bound = (address_mib + MAPPED_MIB) * _MIB
            resource.setrlimit(resource.RLIMIT_AS, (bound, bound))

    return enter


def _started(
    command: Sequence[str], enter: Callable[[], None], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, preexec_fn=enter, env=environment)  # noqa: PLW1509
    except (OSError, subprocess.SubprocessError) as error:
        msg = f"{command[0]} cannot be started on the emulated board: {error}"
        raise RuntimeUnavailable(msg) from error


@contextmanager
def _forwarding() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass SIGTERM and SIGINT on to the command, so that we outlive it and clean up."""
    running: list[subprocess.Popen[bytes]] = []

    def forward(number: int, _frame: object) -> None:
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, forward) for number in signals}
    try:
        yield running.append
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _counted(group: Path | None) -> tuple[int | None, bool]:
    """Peak MiB of a memory group, and whether the kernel killed for it."""
    if group is None:
        return None, False
    tree = Tree(group)
    peak = tree.number("memory.max_usage_in_bytes")
    killed = tree.field("memory.oom_control", "oom_kill", " ")
    return None if peak is None else int(peak) // _MIB, killed not in {"", "0"}


def _is_writable(folder: Path) -> bool:
    trial = folder / f"reefleet-trial-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError:
        return False
    return True
