"""Who may have work now: devices that called lately and whose conditions the settings allow.

Conditions are those of the last question for work, else of the profile. Only the last are kept,
and in memory: a history of power and use would tell who is at home.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.presence import Presence
from coordinator.round_policy import Eligibility
from devices.conditions import Conditions
from reefleet.errors import ConfigError

ANYBODY = Eligibility()


@dataclass(frozen=True, slots=True)
class Told:
    """What a device said when it asked for work; `idle` is None where it does not know."""

    conditions: Conditions
    idle: bool | None = None


class Gate:
    """Safe to use from many threads."""

    def __init__(
        self, presence: Presence, clock: Clock, eligibility: Eligibility = ANYBODY
    ) -> None:
        self.presence = presence
        self._clock = clock
        self._eligibility = eligibility
        self._told: dict[str, Told] = {}

    def tell(self, device_id: str, told: Told) -> None:
        """The device asks for work under these conditions."""
        self._told[device_id] = told

    def may_hold(self, least: int) -> bool:
        """Whether so many devices could get work now; no look at the fleet, which may be large."""
        in_hours = is_within(self._eligibility.window, self._clock.wall())
        return in_hours and self.presence.most() >= least

    def lets_in(self, device: r.Device) -> bool:
        """Whether the device is there and may have work now."""
        return self.presence.is_present(device.device_id) and not self.barrier(device)

    def barrier(self, device: r.Device) -> str:
        """What keeps a device from work now; '' where nothing does."""
        if not is_within(self._eligibility.window, self._clock.wall()):
            return f"outside the hours {self._eligibility.hours}"
        if self._eligibility == ANYBODY:
            return ""
        told = self._told.get(device.device_id) or Told(_reported(device))
        return obstacle(self._eligibility, told)


def obstacle(rules: Eligibility, told: Told) -> str:
    """Which of the rules a device's conditions break; '' for none. Unknown values break none."""
    seen = told.conditions
    if rules.mains_only and seen.on_mains is False:
        return "not on mains"
    charge = seen.battery_percent
    if not seen.on_mains and charge is not None and charge < rules.min_battery_percent:
        return f"battery at {charge} %, below {rules.min_battery_percent} %"
    if seen.temperature_c is not None and seen.temperature_c > rules.max_temperature_c:
        return f"at {seen.temperature_c} C, above {rules.max_temperature_c} C"
    if rules.unmetered and seen.metered:
        return "on a metered link"
    return "busy" if rules.idle and told.idle is False else ""


def is_within(window: tuple[int, int] | None, wall: float) -> bool:
    """Whether the local time of `wall` lies in a daily window of minutes, which may span midnight.

    A window that ends where it begins is the whole day.
    """
    if window is None:
        return True
    start, end = window
    now = time.localtime(wall)
    minute = 60 * now.tm_hour + now.tm_min
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end


def _reported(device: r.Device) -> Conditions:
    known = (device.profile or {}).get("conditions") or {}
    try:
        return Conditions(**known)
    except (TypeError, ConfigError):
        return Conditions()  # of a newer program
