"""What changes on a board from hour to hour: power mode, heat, throttling, supply, the link's cost.

Values are coarse on purpose: fine traces of power and use tell who is at home.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from devices.tree import Tree

_DEGREES = 5
_CHARGE = 10
_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_NOW = 0xF  # undervoltage, capped, throttled, soft limit; higher bits are "since boot"
_NVPMODEL = re.compile(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_LEAST_C, _MOST_C = -40.0, 150.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """None and '' are unknown. `clock_mhz` is what the CPU may reach now, not what it runs at."""

    power_mode: str = ""
    clock_mhz: int | None = None
    temperature_c: int | None = None
    throttled: bool | None = None
    on_mains: bool | None = None
    battery_percent: int | None = None
    metered: bool | None = None


def read_conditions(tree: Tree) -> Conditions:
    """The conditions now; never raises."""
    return Conditions(
        power_mode=_power_mode(tree),
        clock_mhz=_clock_mhz(tree),
        temperature_c=_temperature_c(tree),
        throttled=_throttled(tree),
        on_mains=_on_mains(tree),
        battery_percent=_battery(tree),
        metered=_metered(tree, default_interface(tree)),
    )


def default_interface(tree: Tree) -> str:
    """The network interface of the default route with the least metric; '' where none is known."""
    routes = []
    for line in tree.lines("proc/net/route")[1:]:
        words = line.split()
        if len(words) > 6 and words[1] == "00000000" and words[6].isdecimal():
            routes.append((int(words[6]), words[0]))
    return min(routes)[1] if routes else ""


def link_mbps(tree: Tree, interface: str) -> float | None:
    """The rate that a wired interface agreed on; None for radio and where nobody tells."""
    rate = tree.number(f"sys/class/net/{interface}/speed") if interface else None
    return rate if rate is not None and rate > 0 else None


def is_wired(tree: Tree, interface: str) -> bool | None:
    """Whether an interface is a cable; None where it is neither known cable nor known radio."""
    if not interface:
        return None
    kind = tree.field(f"sys/class/net/{interface}/uevent", "DEVTYPE", "=")
    if kind in {"wlan", "wwan"} or tree.entries(f"sys/class/net/{interface}/wireless"):
        return False
    return True if tree.number(f"sys/class/net/{interface}/type") == 1 else None


def _power_mode(tree: Tree) -> str:
    chosen = tree.text("var/lib/nvpmodel/status").removeprefix("pmode:")
    if chosen.isdecimal():
        modes = dict(_NVPMODEL.findall(tree.text("etc/nvpmodel.conf")))
        return next((name for key, name in modes.items() if int(key) == int(chosen)), "")[:64]
    governors = {tree.text(f"{policy}/scaling_governor") for policy in tree.entries(_CPUFREQ)}
    return " ".join(sorted(governors - {""}))[:64]


def _clock_mhz(tree: Tree) -> int | None:
    caps = [tree.number(f"{policy}/scaling_max_freq") for policy in tree.entries(_CPUFREQ)]
    known = [cap for cap in caps if cap and cap > 0]
    return int(max(known)) // 1000 if known else None


def _temperature_c(tree: Tree) -> int | None:
    zones = [e for e in tree.entries("sys/class/thermal") if "/thermal_zone" in e]
    read = [value / 1000 for zone in zones if (value := tree.number(f"{zone}/temp")) is not None]
    sane = [value for value in read if _LEAST_C < value < _MOST_C]
    return _DEGREES * round(max(sane) / _DEGREES) if sane else None


def _throttled(tree: Tree) -> bool | None:
    word = tree.text(_PI_THROTTLED).removeprefix("0x")
    try:
        return bool(int(word, 16) & _PI_NOW)
    except ValueError:
        pass
    states = [
        state
        for device in tree.entries("sys/class/thermal")
        if "/cooling_device" in device
        and "cpu" in tree.text(f"{device}/type").lower()
        and (state := tree.number(f"{device}/cur_state")) is not None
    ]
    return any(state > 0 for state in states) if states else None


def _supplies(tree: Tree) -> Iterator[tuple[str, str]]:
    for folder in tree.entries("sys/class/power_supply"):
        yield folder, tree.text(f"{folder}/type").lower()


def _on_mains(tree: Tree) -> bool | None:
    found: list[bool] = []
    for folder, kind in _supplies(tree):
        online = tree.number(f"{folder}/online")
        if kind in {"mains", "usb"} and online is not None:
            found.append(online > 0)
        elif kind == "battery" and (status := tree.text(f"{folder}/status").lower()):
            found.append(status != "discharging")
    return any(found) if found else None


def _battery(tree: Tree) -> int | None:
    charges = [
        charge
        for folder, kind in _supplies(tree)
        if kind == "battery" and (charge := tree.number(f"{folder}/capacity")) is not None
    ]
    sane = [charge for charge in charges if 0 <= charge <= 100]
    return _CHARGE * int(min(sane) // _CHARGE) if sane else None


def _metered(tree: Tree, interface: str) -> bool | None:
    if not interface:
        return None
    index = tree.text(f"sys/class/net/{interface}/ifindex")
    uuid = tree.field(f"run/NetworkManager/devices/{index}", "connection-uuid", "=")
    for folder in (
        "run/NetworkManager/system-connections",
        "etc/NetworkManager/system-connections",
    ):
        for file in tree.entries(folder):
            if uuid and tree.field(file, "uuid", "=") == uuid:
                told = tree.field(file, "metered", "=")
                if told in {"1", "2"}:
                    return told == "1"
    kind = tree.field(f"sys/class/net/{interface}/uevent", "DEVTYPE", "=")
    return True if kind == "wwan" else None
