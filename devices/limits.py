"""Memory and CPU that control groups leave to this process, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from devices.tree import Tree

_GROUPS = "proc/self/cgroup"
_MOUNT = "sys/fs/cgroup"
_V1_UNLIMITED = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is left below the tightest group; None where no group sets a limit."""

    memory_mib: int | None = None
    memory_free_mib: int | None = None
    cpus: float | None = None


def read_limits(tree: Tree) -> Limits:
    """The tightest limits on the way from this process's groups to the root."""
    memory = [found for folder in _folders(tree, "memory") if (found := _memory(tree, folder))]
    cpus = [quota for folder in _folders(tree, "cpu") if (quota := _cpus(tree, folder))]
    return Limits(
        memory_mib=min((limit for limit, _ in memory), default=None),
        memory_free_mib=min((free for _, free in memory), default=None),
        cpus=min(cpus, default=None),
    )


def _folders(tree: Tree, controller: str) -> Iterator[str]:
    """Folders of the groups that hold this process, from its own up to the mount."""
    for line in tree.lines(_GROUPS):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers and controller not in names:
            continue
        mounts = [f"{_MOUNT}/{controllers}", f"{_MOUNT}/{controller}"] if controllers else [_MOUNT]
        if not controllers:
            mounts.append(f"{_MOUNT}/unified")
        own = PurePosixPath(path or "/")
        for mount in dict.fromkeys(mounts):
            # A container may see its own group as the mount itself.
            for group in (own, *own.parents):
                yield f"{mount}/{str(group).strip('/')}".rstrip("/")


def _memory(tree: Tree, folder: str) -> tuple[int, int] | None:
    """Limit and what is left of it in MiB; page cache that can be dropped counts as free."""
    limit = tree.number(f"{folder}/memory.max")
    used = tree.number(f"{folder}/memory.current")
    if limit is None:
        limit = tree.number(f"{folder}/memory.limit_in_bytes")
        used = tree.number(f"{folder}/memory.usage_in_bytes")
    if limit is None or not 0 < limit < _V1_UNLIMITED:
        return None
    cache = 0.0
    for name in ("total_inactive_file", "inactive_file"):
        if word := tree.field(f"{folder}/memory.stat", name, " "):
            cache = float(word) if word.isdecimal() else 0.0
            break
    left = limit - max(0.0, (used or 0.0) - cache)
    return int(limit) // _MIB, max(0, int(left)) // _MIB


def _cpus(tree: Tree, folder: str) -> float | None:
    words = tree.text(f"{folder}/cpu.max").split()
    quota = tree.number(f"{folder}/cpu.max")
    period = float(words[1]) if len(words) > 1 and words[1].isdecimal() else None
    if not words:
        quota = tree.number(f"{folder}/cpu.cfs_quota_us")
        period = tree.number(f"{folder}/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None
