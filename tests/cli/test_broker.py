"""`reefleet coordinator mqtt-acl`, and what people are told of a device at the broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.clock import Clock
from coordinator.folder import create
from coordinator.records import Device, Enrollment, Token
from coordinator.store import Store
from reefleet.cli import fleet_tables, main
from reefleet.v1 import operator_pb2 as pb


def test_the_verb_writes_rules_and_says_what_to_type_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = create(tmp_path / "fleet", "barn", None, None)
    store = Store(folder.state)
    now = Clock().wall()
    store.add_token(Token("0" * 64, "gone", now + 60))
    store.enroll(Device("gone", "1", "1" * 64, now), Enrollment("0" * 64, "", "gone", b"", now))
    store.revoke("gone", now)
    store.close()
    assert main(["coordinator", "mqtt-acl", "--dir", str(folder.root)]) == 0
    said = capsys.readouterr().out
    config = folder.root / "mqtt" / "mosquitto.conf"
    assert f"next: mosquitto -c {config}" in said
    assert "1 revoked" in said
    assert "set port = 8883 under [mqtt]" in said
    assert "listener 8883" in config.read_text()
    assert "user gone\ntopic deny #" in (folder.root / "mqtt" / "acl").read_text()


def test_a_folder_without_a_coordinator_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["coordinator", "mqtt-acl", "--dir", str(tmp_path)]) == 66
    assert "run: reefleet coordinator init" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_devices_last_words_are_shown() -> None:
    found = pb.GetDeviceResponse(
        device=pb.DeviceSummary(device_id="shed-1"),
        vitals=pb.Vitals(
            online=True, told_at=955.0, doing="federate", temperature_c=61, resident_mib=48
        ),
    )
    assert (
        "broker: online, 45 s ago: federate, temperature 61 C, client 48 MiB"
        in fleet_tables.device(found, [], 1000.0)
    )
    found.vitals.CopyFrom(pb.Vitals(online=False))
    assert "broker: offline" in fleet_tables.device(found, [], 1000.0)


def test_the_status_counts_who_is_online() -> None:
    found = pb.GetStatusResponse(devices=pb.DeviceCounts(enrolled=3, online=2))
    assert "2 online" in "\n".join(fleet_tables.status(found))
    found.devices.ClearField("online")
    assert "online" not in "\n".join(fleet_tables.status(found))
