"""Conditions through a fake tree: each reader, and unknown where nothing is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.conditions import (
    Conditions,
    default_interface,
    is_wired,
    link_mbps,
    read_conditions,
)
from devices.probe import probe
from devices.tree import Tree

CPU0 = "sys/devices/system/cpu/cpufreq/policy0"
PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
ROUTE = (
    "Iface Destination Gateway Flags RefCnt Use Metric Mask\n"
    "wlan0 00000000 0101A8C0 0003 0 0 600 00000000\n"
    "eth0 00000000 0101A8C0 0003 0 0 100 00000000\n"
)


def a_tree(root: Path, files: dict[str, str]) -> Tree:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return Tree(root)


@pytest.mark.parametrize(
    ("files", "name", "value"),
    [
        ({f"{CPU0}/scaling_governor": "ondemand\n"}, "power_mode", "ondemand"),
        ({f"{CPU0}/scaling_max_freq": "1800000\n"}, "clock_mhz", 1800),
        (
            {
                "var/lib/nvpmodel/status": "pmode:0002",
                "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=25W >",
            },
            "power_mode",
            "25W",
        ),
        ({"sys/class/thermal/thermal_zone0/temp": "61234\n"}, "temperature_c", 60),
        ({"sys/class/thermal/thermal_zone0/temp": "-274000\n"}, "temperature_c", None),
        ({PI: "0x50004\n"}, "throttled", True),
        ({PI: "0x50000\n"}, "throttled", False),
        (
            {
                "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
                "sys/class/thermal/cooling_device0/cur_state": "2",
            },
            "throttled",
            True,
        ),
        (
            {
                "sys/class/power_supply/AC/type": "Mains",
                "sys/class/power_supply/AC/online": "0",
                "sys/class/power_supply/BAT0/type": "Battery",
                "sys/class/power_supply/BAT0/status": "Discharging",
            },
            "on_mains",
            False,
        ),
        (
            {
                "sys/class/power_supply/BAT0/type": "Battery",
                "sys/class/power_supply/BAT0/capacity": "87",
            },
            "battery_percent",
            80,
        ),
        (
            {
                "proc/net/route": ROUTE,
                "sys/class/net/eth0/ifindex": "3",
                "run/NetworkManager/devices/3": "[device]\nconnection-uuid=u-1\n",
                "etc/NetworkManager/system-connections/a.nmconnection": "uuid=u-1\nmetered=1\n",
            },
            "metered",
            True,
        ),
        (
            {"proc/net/route": ROUTE, "sys/class/net/eth0/uevent": "DEVTYPE=wwan\n"},
            "metered",
            True,
        ),
    ],
)
def test_each_condition_is_read(
    tmp_path: Path, files: dict[str, str], name: str, value: object
) -> None:
    assert getattr(read_conditions(a_tree(tmp_path, files)), name) == value


def test_a_bare_system_says_nothing(tmp_path: Path) -> None:
    assert read_conditions(Tree(tmp_path / "absent")) == Conditions()


def test_the_default_route_with_the_least_metric_counts(tmp_path: Path) -> None:
    files = {
        "proc/net/route": ROUTE,
        "sys/class/net/eth0/type": "1",
        "sys/class/net/eth0/speed": "1000",
        "sys/class/net/wlan0/uevent": "DEVTYPE=wlan\n",
        "sys/class/net/wlan0/speed": "-1",
    }
    tree = a_tree(tmp_path, files)
    assert default_interface(tree) == "eth0"
    assert (is_wired(tree, "eth0"), link_mbps(tree, "eth0")) == (True, 1000)
    assert (is_wired(tree, "wlan0"), link_mbps(tree, "wlan0")) == (False, None)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "proc/meminfo",
                "proc/cpuinfo",
                "proc/self/cgroup",
                "proc/self/status",
                "proc/net/route",
                "proc/device-tree/model",
                "etc/os-release",
                "etc/nvpmodel.conf",
                "var/lib/nvpmodel/status",
                PI,
                f"{CPU0}/scaling_max_freq",
                "sys/class/thermal/thermal_zone0/temp",
                "sys/class/power_supply/BAT0/type",
                "sys/class/power_supply/BAT0/capacity",
            ]
        ),
        st.binary(max_size=60),
    )
)
def test_garbage_anywhere_never_crashes_the_probe(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    profile = probe(root=root, storage=root)
    assert profile.taken_at is not None
