"""Who belongs to the fleet: facts of the run, tokens, devices and their compiled bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from coordinator import records as r
from coordinator.store import schema as t
from coordinator.store.database import Database, dump
from reefleet.plan import SubmodelPlan


class FleetState(Database):
    """The half of the store that outlives a run."""

    # Facts of the run

    def fact(self, name: str) -> str | None:
        """A named value, None where it was never set."""
        row = self._one(select(t.facts.c.value).where(t.facts.c.name == name))
        return row.value if row else None

    def set_fact(self, name: str, value: str) -> None:
        """Set a named value."""
        with self._write() as connection:
            connection.execute(
                upsert(t.facts)
                .values(name=name, value=value)
                .on_conflict_do_update(index_elements=["name"], set_={"value": value})
            )

    # Devices

    def device(self, device_id: str) -> r.Device | None:
        """The enrolled device of this name."""
        row = self._one(select(t.devices).where(t.devices.c.device_id == device_id))
        return device_of(row) if row else None

    def devices(self) -> list[r.Device]:
        """All enrolled devices by name."""
        return [device_of(row) for row in self._all(select(t.devices).order_by("device_id"))]

    def set_seen(self, device_id: str, at: float) -> None:
        """Note that the device called."""
        self._set_device(device_id, last_seen_at=at)

    def set_plan(
        self,
        device_id: str,
        profile: Mapping[str, Any],
        plan: SubmodelPlan,
        planned_for: str,
        bundle_key: str,
    ) -> None:
        """Keep a device's profile, its plan and the bundle this needs; forget earlier failures."""
        self._set_device(
            device_id,
            profile=dump(profile),
            plan=dump(plan.to_json()),
            planned_for=planned_for,
            bundle_key=bundle_key,
            failure="",
        )

    def set_bundle_key(self, device_id: str, key: str) -> None:
        """Name the bundle that the device's plan needs now; forget earlier failures."""
        self._set_device(device_id, bundle_key=key, failure="")

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
                upsert(t.bundles)
                .values(
                    key=bundle.key,
                    manifest_sha256=bundle.manifest.sha256,
                    manifest_bytes=bundle.manifest.size_bytes,
                    signature=bundle.signature,
                )
                .on_conflict_do_nothing()
            )
            if files:
                connection.execute(upsert(t.bundle_files).on_conflict_do_nothing(), files)

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
        plan=SubmodelPlan.from_json(json.loads(plan)) if plan else None,
    )
