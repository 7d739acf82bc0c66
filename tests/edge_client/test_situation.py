"""What may keep a device from work: looked at seldom, and its own work never makes it busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from devices.tree import Tree
from edge_client.situation import LOOK_EVERY_S, Situation

CORES = 4


class Machine:
    """A made-up machine: seconds of its processors since boot."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = self.busy = self.own = 0.0
        (root / "proc").mkdir()
        self.situation = Situation(Tree(root), lambda: self.now, lambda: self.own)
        self.write()

    def spend(self, seconds: float, busy: float, own: float = 0.0) -> None:
        """Let time pass in which all processors together were busy for so long."""
        self.now += seconds
        self.busy += busy
        self.own += own
        self.write()

    def write(self) -> None:
        idle = int(100 * (CORES * self.now - self.busy))
        line = f"cpu  {int(100 * self.busy)} 0 0 {idle} 0 0 0 0 0 0\n"
        (self.root / "proc/stat").write_text(line)

    def idle(self) -> bool | None:
        return self.situation.look()[1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_known_at_the_first_look(machine: Machine) -> None:
    assert machine.idle() is None


@pytest.mark.parametrize(("busy", "own", "idle"), [(6, 0, True), (60, 0, False), (100, 90, True)])
def test_a_device_is_idle_where_others_leave_it_mostly_unused(
    machine: Machine, busy: float, own: float, idle: bool
) -> None:
    machine.idle()
    machine.spend(LOOK_EVERY_S, busy, own)
    assert machine.idle() is idle


def test_it_looks_again_only_after_a_while(machine: Machine) -> None:
    machine.idle()
    machine.spend(LOOK_EVERY_S, 100)
    assert machine.idle() is False
    machine.spend(LOOK_EVERY_S / 2, 0)
    assert machine.idle() is False
    machine.spend(LOOK_EVERY_S, 0)
    assert machine.idle() is True


def test_a_system_that_does_not_tell_is_unknown(machine: Machine) -> None:
    machine.idle()
    machine.spend(LOOK_EVERY_S, 0)
    (machine.root / "proc/stat").write_text("nothing here\n")
    assert machine.idle() is None


def test_conditions_come_with_it(machine: Machine) -> None:
    supply = machine.root / "sys/class/power_supply/BAT0"
    supply.mkdir(parents=True)
    for name, text in (("type", "Battery"), ("status", "Discharging"), ("capacity", "57")):
        (supply / name).write_text(text)
    conditions, _ = machine.situation.look()
    assert (conditions.on_mains, conditions.battery_percent) == (False, 50)
