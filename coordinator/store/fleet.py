"""Who belongs to the fleet: facts of the run, tokens, devices and their compiled bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, bindparam, select, update

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, dump, upsert
from reefleet.plan import SubmodelPlan

REMEMBERED = 16_384  # a device takes some 4 KiB; beyond them, an idle one asks the database


class FleetState(Database):
    """The half of the store that outlives a run."""

    # Facts of the run

    def fact(self, name: str) -> str | None:
        """A named value, None where it was never set."""
        row = self._one(select(t.facts.c.value).where(t.facts.c.name == name))
        return row.value if row else None

    def set_fact(self, name: str, value: str) -> None:
        """Set a named value."""
        with self._write(of_devices=False, of_work=False) as connection:
            connection.execute(
                upsert(connection, t.facts)
                .values(name=name, value=value)
                .on_conflict_do_update(index_elements=["name"], set_={"value": value})
            )

    # Devices

    def device(self, device_id: str) -> r.Device | None:
        """The enrolled device of this name."""
        remembered = self._remembered  # of this moment: a write puts another in its place
        known: r.Device | None = remembered.get(device_id)
        if known is None:
            row = self._one(select(t.devices).where(t.devices.c.device_id == device_id))
            known = device_of(row) if row else None
            if known and len(remembered) < REMEMBERED:
                remembered[device_id] = known
        return known

    def is_member(self, device_id: str) -> bool:
        """Whether a device of this name is enrolled and not revoked."""
        c = t.devices.c
        query = select(c.device_id).where(c.device_id == device_id, c.revoked_at.is_(None))
        return self._one(query) is not None

    def revoked(self) -> list[str]:
        """Names of revoked devices."""
        c = t.devices.c
        query = select(c.device_id).where(c.revoked_at.is_not(None)).order_by(c.device_id)
        return [row.device_id for row in self._all(query)]

    def devices(self) -> list[r.Device]:
        """All enrolled devices by name."""
        return [device_of(row) for row in self._all(select(t.devices).order_by("device_id"))]

    def set_seen(self, seen: Mapping[str, float]) -> None:
        """Note when devices last called."""
        if not seen:
            return
        change = (
            update(t.devices)
            .where(t.devices.c.device_id == bindparam("of"))
            .values(last_seen_at=bindparam("at"))
        )
        rows = [{"of": device_id, "at": at} for device_id, at in sorted(seen.items())]
        with self._write(of_devices=False, of_work=False) as connection:
            connection.execute(change, rows)
        remembered = self._remembered
        for device_id, at in seen.items():
            if known := remembered.get(device_id):
                remembered[device_id] = replace(known, last_seen_at=at)

    def set_plan(
        self,
        device_id: str,
        profile: Mapping[str, Any],
        plan: SubmodelPlan,
        planned_for: str,
        bundle_key: str,
    ) -> None:
        """Keep a device's profile, its plan and the bundle this needs; forget earlier failures."""
        self.set_plans([r.Planned(device_id, profile, plan, planned_for, bundle_key)])

    def set_plans(self, planned: Sequence[r.Planned]) -> None:
        """Keep what was planned for several devices, all of it or nothing."""
        rows = [
            {
                "of": one.device_id,
                "profile": dump(one.profile),
                "plan": dump(one.plan.to_json()),
                "planned_for": one.planned_for,
                "bundle_key": one.bundle_key,
                "failure": "",
            }
            for one in planned
        ]
        if not rows:
            return
        change = update(t.devices).where(t.devices.c.device_id == bindparam("of"))
        names = [name for name in rows[0] if name != "of"]
        with self._write() as connection:
            connection.execute(change.values({name: bindparam(name) for name in names}), rows)

    def set_codecs(self, device_id: str, codecs: str) -> None:
        """Keep which codecs the device's client knows."""
        self._set_device(device_id, codecs=codecs)

    def set_bundle_keys(self, keys: Mapping[str, str]) -> None:
        """Name the bundle that each device's plan needs now; forget earlier failures."""
        if not keys:
            return
        change = (
            update(t.devices)
            .where(t.devices.c.device_id == bindparam("of"))
            .values(bundle_key=bindparam("key"), failure="")
        )
        rows = [{"of": device_id, "key": key} for device_id, key in sorted(keys.items())]
        with self._write() as connection:
            connection.execute(change, rows)

    def set_failure(self, device_id: str, profile: Mapping[str, Any], failure: str) -> None:
        """Keep why the device can have no plan."""
        self._set_device(
            device_id, profile=dump(profile), plan=None, bundle_key="", failure=failure
        )

    # Bundles

    def bundle(self, key: str) -> r.Bundle | None:
        """The compiled bundle of this content key."""
        row = self._one(select(t.bundles).where(t.bundles.c.key == key))
        if not row:
            return None
        files = self._all(
            select(t.bundle_files).where(t.bundle_files.c.key == key).order_by("sha256")
        )
        return r.Bundle(
            key=row.key,
            manifest=r.Artifact(row.manifest_sha256, row.manifest_bytes),
            signature=row.signature,
            files=tuple(r.Artifact(file.sha256, file.size_bytes) for file in files),
        )

    def add_bundle(self, bundle: r.Bundle) -> None:
        """Keep a compiled bundle whose blobs are stored; keeping it again changes nothing."""
        files = [
            {"key": bundle.key, "sha256": file.sha256, "size_bytes": file.size_bytes}
            for file in bundle.files
        ]
        with self._write() as connection:
            connection.execute(
                upsert(connection, t.bundles)
                .values(
                    key=bundle.key,
                    manifest_sha256=bundle.manifest.sha256,
                    manifest_bytes=bundle.manifest.size_bytes,
                    signature=bundle.signature,
                )
                .on_conflict_do_nothing()
            )
            if files:
                connection.execute(
                    upsert(connection, t.bundle_files).on_conflict_do_nothing(), files
                )

    def fail_bundle(self, key: str, reason: str) -> None:
        """Tell all devices that wait for this bundle why there is none."""
        with self._write() as connection:
            connection.execute(
                update(t.devices).where(t.devices.c.bundle_key == key).values(failure=reason)
            )

    def ready(self) -> list[r.Device]:
        """Devices whose bundle is there, by name."""
        query = (
            select(t.devices)
            .join(t.bundles, t.bundles.c.key == t.devices.c.bundle_key)
            .where(t.devices.c.plan.is_not(None), t.devices.c.revoked_at.is_(None))
            .order_by(t.devices.c.device_id)
        )
        return [device_of(row) for row in self._all(query)]

    def is_ready(self, device: r.Device) -> bool:
        """Whether a device could be given work: planned, its bundle there, not revoked."""
        if device.plan is None or device.revoked_at is not None:
            return False
        return self.bundle(device.bundle_key) is not None

    def _set_device(self, device_id: str, **values: object) -> None:
        with self._write() as connection:
            connection.execute(
                update(t.devices).where(t.devices.c.device_id == device_id).values(**values)
            )


def device_of(row: Row[Any]) -> r.Device:
    """A row of `devices` as a record."""
    values = row._asdict()
    profile, plan = values.pop("profile"), values.pop("plan")
    return r.Device(
        **values,
        profile=json.loads(profile) if profile else None,
        plan=plan_of(plan) if plan else None,
    )


@lru_cache(maxsize=4096)
def plan_of(text: str) -> SubmodelPlan:
    """A plan from its column; boards of one kind have the same, so few are ever parsed."""
    return SubmodelPlan.from_json(json.loads(text))
