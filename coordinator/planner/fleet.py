"""A whole fleet planned at once: one row a kind of device, and what all of them cost together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.planner.accuracy import AccuracyTable, default_table
from coordinator.planner.bounds import round_joules, round_seconds
from coordinator.planner.budget import Budget
from coordinator.planner.options import options_of
from coordinator.planner.solve import Decision, decide
from devices import catalog, cost
from devices.capability import Capability, capability_of
from devices.profile import DeviceProfile
from reefleet import settings
from reefleet.errors import ConfigError, MissingFile, NoFeasiblePlan, PlanError
from reefleet.model import ModelSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = {"name", "board", "memory_mib", "samples", "count"}


@dataclass(frozen=True, slots=True)
class Member:
    """`count` devices of one kind. Where nothing fits, `decision` is None, `failure` says why."""

    name: str
    count: int
    profile: DeviceProfile
    decision: Decision | None = None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one device's round takes; `energy_j` is None where nobody knows the board's draw."""

    answer_ms: float
    round_s: float
    peak_mib: float
    packed_mib: float
    moved_mib: float
    energy_j: float | None


@dataclass(frozen=True, slots=True)
class Total:
    """What a round costs the fleet.

    `holders[d]` counts devices of exit depth d or more; `energy_j` covers `metered` of the planned.
    """

    devices: int
    planned: int
    expected_accuracy: float
    moved_mib: float
    longest_round_s: float
    energy_j: float
    metered: int
    holders: Mapping[int, int]


def plan_fleet(
    profiles: Sequence[DeviceProfile],
    spec: ModelSpec,
    budget: Budget,
    table: AccuracyTable | None = None,
) -> list[Decision | PlanError]:
    """A decision for each device, in their order, or why there is none.

    Devices that are alike to the planner are planned once.
    """
    options = options_of(spec, budget, table or default_table(spec))
    known: dict[Capability, Decision | PlanError] = {}
    found: list[Decision | PlanError] = []
    for profile in profiles:
        try:
            device = capability_of(profile)
        except PlanError as error:
            found.append(error)
            continue
        if device not in known:
            try:
                known[device] = decide(device, options)
            except NoFeasiblePlan as error:
                known[device] = error
        found.append(known[device])
    return found


def planned(
    members: Sequence[Member], spec: ModelSpec, budget: Budget, table: AccuracyTable | None = None
) -> tuple[Member, ...]:
    """The members with their decisions."""
    answers = plan_fleet([member.profile for member in members], spec, budget, table)
    return tuple(
        Member(m.name, m.count, m.profile, a)
        if isinstance(a, Decision)
        else Member(m.name, m.count, m.profile, failure=str(a))
        for m, a in zip(members, answers, strict=True)
    )


def cost_of(decision: Decision) -> Cost:
    """What the chosen sub-model costs its device, margins of time included."""
    options, chosen, device = decision.options, decision.chosen, decision.device
    joules = round_joules(device, options)
    depth = decision.candidate.exit_depth
    return Cost(
        answer_ms=cost.answer_ms(options.spec, depth, device.rates, options.budget.runtime).upper(),
        round_s=options.at(round_seconds(device, options), chosen),
        peak_mib=options.at(options.peak_mib, chosen),
        packed_mib=options.at(options.packed_kib, chosen) / 1024,
        moved_mib=options.at(options.payload_bytes, chosen) / 2**20,
        energy_j=None if joules is None else options.at(joules, chosen),
    )


def total(members: Iterable[Member], spec: ModelSpec) -> Total:
    """What a round costs them all; accuracy is the mean over the planned devices."""
    everyone = list(members)
    found = [(m.count, m.decision, cost_of(m.decision)) for m in everyone if m.decision]
    count = sum(number for number, _, _ in found)
    expected = sum(number * decision.expected_accuracy for number, decision, _ in found)
    metered = [(number, c.energy_j) for number, _, c in found if c.energy_j is not None]
    return Total(
        devices=sum(member.count for member in everyone),
        planned=count,
        expected_accuracy=expected / count if count else 0.0,
        moved_mib=sum(number * each.moved_mib for number, _, each in found),
        longest_round_s=max((each.round_s for _, _, each in found), default=0.0),
        energy_j=sum(number * joules for number, joules in metered),
        metered=sum(number for number, _ in metered),
        holders={
            depth: sum(n for n, decision, _ in found if decision.candidate.exit_depth >= depth)
            for depth in spec.exits
        },
    )


def read_fleet(path: Path) -> tuple[tuple[Member, ...], Mapping[str, Any]]:
    """Devices and budget of a fleet file; raises MissingFile, ConfigError, UnknownBoard."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read the fleet file {path}: {error.strerror}"
        raise MissingFile(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not TOML: {error}"
        raise ConfigError(msg) from error
    if unknown := sorted(set(values) - {"device", "budget"}):
        msg = f"{path}: unknown key {unknown[0]!r}; a fleet file has [[device]] and [budget]"
        raise ConfigError(msg)
    entries = values.get("device")
    if not isinstance(entries, list) or not entries:
        msg = f"{path} names no device; add a [[device]] table with its board"
        raise ConfigError(msg)
    members = tuple(_member(path, place, entry) for place, entry in enumerate(entries, 1))
    return members, values.get("budget", {})


def budget_of(grants: Mapping[str, Any], flags: Mapping[str, object]) -> Budget:
    """The budget of a fleet file, flags winning; raises ConfigError naming key and value."""
    given = {name: value for name, value in flags.items() if value is not None}
    return settings.load(Budget, flags={**grants, **given})


def _member(path: Path, place: int, entry: Any) -> Member:
    if not isinstance(entry, dict):
        msg = f"{path}: device {place} is not a table"
        raise ConfigError(msg)
    if unknown := sorted(set(entry) - _KEYS):
        msg = f"{path}: device {place} has the unknown key {unknown[0]!r}"
        raise ConfigError(msg)
    board = entry.get("board")
    if not isinstance(board, str):
        msg = f"{path}: device {place} names no board"
        raise ConfigError(msg)
    numbers = {"memory_mib": 0, "samples": 0, "count": 1}
    for name, default in numbers.items():
        value = entry.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < default:
            msg = f"{path}: device {place}: {name} is {value!r}; it must be a whole number"
            raise ConfigError(msg)
        numbers[name] = value
    profile = catalog.reference_profile(
        board, nominal_mib=numbers["memory_mib"], train_samples=numbers["samples"] or None
    )
    return Member(str(entry.get("name", board)), numbers["count"], profile)
