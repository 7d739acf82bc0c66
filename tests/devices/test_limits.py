from __future__ import annotations

from pathlib import Path

import pytest

from devices.limits import Limits, read_limits
from devices.tree import Tree

MIB = 1 << 20


def a_tree(root: Path, files: dict[str, str]) -> Tree:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return Tree(root)


def test_version_2_limits_count_what_is_used_but_not_droppable_cache(tmp_path: Path) -> None:
    tree = a_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/board/client\n",
            "sys/fs/cgroup/board/memory.max": f"{300 * MIB}",
            "sys/fs/cgroup/board/memory.current": f"{120 * MIB}",
            "sys/fs/cgroup/board/memory.stat": f"anon 1\ninactive_file {20 * MIB}\n",
            "sys/fs/cgroup/board/client/memory.max": "max",
            "sys/fs/cgroup/board/client/cpu.max": "50000 100000",
        },
    )
    assert read_limits(tree) == Limits(300, 200, 0.5)


def test_version_1_limits_are_read_and_the_tightest_counts(tmp_path: Path) -> None:
    tree = a_tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/pi\n4:memory:/pi/inner\n1:name=systemd:/\n",
            "sys/fs/cgroup/memory/pi/memory.limit_in_bytes": f"{329 * MIB}",
            "sys/fs/cgroup/memory/pi/memory.usage_in_bytes": f"{29 * MIB}",
            "sys/fs/cgroup/memory/pi/inner/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/pi/cpu.cfs_quota_us": "1000",
            "sys/fs/cgroup/cpu/pi/cpu.cfs_period_us": "5000",
        },
    )
    assert read_limits(tree) == Limits(329, 300, 0.2)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "garbage\n::\n0"},
        {"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/memory.max": "many"},
        {"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/x/cpu.max": "max 100000"},
        {
            "proc/self/cgroup": "3:cpu:/x\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_no_limit_and_garbage_are_unknown(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_limits(a_tree(tmp_path, files)) == Limits()
