from __future__ import annotations

from dataclasses import replace

import pytest

from devices.conditions import Conditions
from devices.profile import DeviceProfile, Timing
from devices.signed import require_signed, sign
from reefleet.errors import ChecksumMismatch
from reefleet.rpc.identity import create_authority
from reefleet.wire import convert

PROFILE = DeviceProfile(
    "rpi-4b",
    memory_available_mib=780,
    cpus=1.5,
    conditions=Conditions("ondemand", 1800, 55, throttled=False),
    timings=(Timing("train-2-4", "narrow-2", 2, 4, 1.25, 0.05, 90.5),),
    taken_at=1_800_000_000,
)


def test_a_signed_profile_survives_the_wire_and_is_known_for_its_maker_s() -> None:
    certificate, key = create_authority("test")
    profile = convert.profile_from_pb(convert.profile_to_pb(sign(PROFILE, key)))
    require_signed(profile, certificate)
    assert replace(profile, signature="") == PROFILE


def test_a_changed_a_foreign_and_an_unsigned_profile_are_refused() -> None:
    certificate, key = create_authority("test")
    changed = replace(sign(PROFILE, key), memory_available_mib=9999)
    foreign = sign(PROFILE, create_authority("other")[1])
    for profile in (changed, foreign, PROFILE):
        with pytest.raises(ChecksumMismatch, match="rpi-4b is not signed"):
            require_signed(profile, certificate)
