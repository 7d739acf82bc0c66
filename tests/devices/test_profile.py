from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.profile import DeviceProfile
from reefleet.errors import ConfigError

_counts = st.none() | st.integers(min_value=1, max_value=2**40)

profiles = st.builds(
    DeviceProfile,
    board=st.text(max_size=20),
    memory_available_mib=_counts,
    cores=_counts,
    storage_free_bytes=_counts,
    runtimes=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    isa=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    train_samples=_counts,
)


@given(profiles)
def test_a_profile_survives_json(profile: DeviceProfile) -> None:
    assert DeviceProfile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize(
    ("key", "value"), [("cores", 0), ("memory_available_mib", -1), ("train_samples", 1.5)]
)
def test_an_impossible_count_is_refused_by_name(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        DeviceProfile.from_json({"board": "rpi-5", key: value})


def test_an_unknown_key_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="serial"):
        DeviceProfile.from_json({"board": "rpi-5", "serial": "1000"})


def test_what_is_not_reported_stays_unknown() -> None:
    profile = DeviceProfile.from_json({"board": "rpi-5"})
    assert profile.cores is None
    assert profile.memory_available_mib is None
