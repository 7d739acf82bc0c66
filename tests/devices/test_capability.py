from __future__ import annotations

import pytest

from devices import catalog
from devices.capability import UNKNOWN_BOARD_SIGMA, capability_of
from devices.profile import DeviceProfile
from reefleet.errors import UnknownBoard


def test_what_the_device_measured_wins_over_the_catalog() -> None:
    assert (
        capability_of(DeviceProfile("rpi-4b", memory_available_mib=123)).memory_available_mib == 123
    )


def test_missing_memory_is_taken_from_the_catalog_and_said() -> None:
    found = capability_of(DeviceProfile("rpi-zero2w"))
    assert found.memory_available_mib == 329
    assert any("329 MiB" in line for line in found.assumed)


def test_int8_kernels_count_only_where_onnxruntime_is_present() -> None:
    other = DeviceProfile("rpi-4b", runtimes={"tflite-runtime": "2.14.0"})
    assert capability_of(other).rates.int8_speedup == 1.0
    ours = DeviceProfile("rpi-4b", runtimes={"onnxruntime": "1.31.1"})
    assert capability_of(ours).rates.int8_speedup == 1.5


def test_an_unknown_board_is_taken_for_the_slowest_with_its_features() -> None:
    old = capability_of(DeviceProfile("", 1000, 4, isa=("neon",)))
    new = capability_of(DeviceProfile("", 1000, 4, isa=("neon", "int8-dotprod", "fp16")))
    assert old.rates.vit_gflops == pytest.approx(4.6)
    assert new.rates.vit_gflops == pytest.approx(4 * 41.5 / 6)
    assert old.rates.rel_sigma == new.rates.rel_sigma == UNKNOWN_BOARD_SIGMA
    assert old.network_mbps == 35


def test_a_known_board_without_a_prior_is_treated_with_the_same_caution() -> None:
    found = capability_of(catalog.reference_profile("jetson-agx-thor"))
    assert found.rates.rel_sigma == UNKNOWN_BOARD_SIGMA
    assert found.rates.vit_gflops == pytest.approx(14 * 4.6 / 4)


@pytest.mark.parametrize(
    ("profile", "missing"),
    [
        (DeviceProfile("toaster", cores=4), "free memory"),
        (DeviceProfile("toaster", memory_available_mib=500), "number of cores"),
    ],
)
def test_a_board_nobody_knows_is_refused_with_what_is_missing(
    profile: DeviceProfile, missing: str
) -> None:
    with pytest.raises(UnknownBoard, match=rf"toaster.*{missing}"):
        capability_of(profile)


def test_every_board_of_the_catalog_has_a_capability() -> None:
    for name in catalog.boards():
        found = capability_of(catalog.reference_profile(name))
        assert found.rates.vit_gflops > 0
        assert found.rates.scalar_mips > 0
