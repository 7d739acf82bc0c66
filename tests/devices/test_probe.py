from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.probe import detect, probe
from devices.profile import DeviceProfile

MEMINFO = "MemTotal:        {total} kB\nMemFree:          1000 kB\nMemAvailable:  {free} kB\n"


def a_tree(root: Path, model: str = "", *, total_mib: int = 512, free_mib: int = 300) -> Path:
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/model").write_text(model + "\0", encoding="utf-8")
    meminfo = MEMINFO.format(total=total_mib << 10, free=free_mib << 10)
    (root / "proc/meminfo").write_text(meminfo, encoding="utf-8")
    features = "processor\t: 0\nFeatures\t: fp asimd asimddp asimdhp crc32\n"
    (root / "proc/cpuinfo").write_text(features, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("model", "total_mib", "board"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0", 427, "rpi-zero2w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", 927, "rpi-3bplus"),
        ("Raspberry Pi 4 Model B Rev 1.4", 3891, "rpi-4b"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", 1900, "rpi-cm4"),
        ("Raspberry Pi 5 Model B Rev 1.0", 8048, "rpi-5"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 7600, "jetson-orin-nano-8gb"),
        ("NVIDIA Jetson Orin Nano Developer Kit", 3600, "jetson-orin-nano-4gb"),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            7600,
            "jetson-orin-nano-super",
        ),
        ("NVIDIA Jetson Orin NX Developer Kit", 15600, "jetson-orin-nx-16gb"),
        ("NVIDIA Jetson Nano Developer Kit", 3994, "jetson-nano-4gb"),
        ("NVIDIA Jetson AGX Orin Developer Kit", 62000, "jetson-agx-orin-64gb"),
    ],
)
def test_a_device_tree_names_its_board(
    tmp_path: Path, model: str, total_mib: int, board: str
) -> None:
    found = detect(a_tree(tmp_path, model, total_mib=total_mib))
    assert found is not None
    assert found.id == board


def test_a_machine_of_no_known_kind_is_no_board(tmp_path: Path) -> None:
    assert detect(a_tree(tmp_path, "Acme Toaster")) is None


def test_a_machine_with_nothing_to_read_still_has_a_profile(tmp_path: Path) -> None:
    profile = probe(root=tmp_path / "absent", storage=tmp_path)
    assert profile.board == ""
    assert profile.memory_available_mib is None
    assert profile.isa == ()
    assert profile.storage_free_bytes is not None


def test_a_real_board_reports_what_it_measured(tmp_path: Path) -> None:
    root = a_tree(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", total_mib=4045, free_mib=1234)
    profile = probe("rpi-5", root=root, storage=tmp_path, train_samples=7)
    assert profile.memory_available_mib == 1234
    assert profile.isa == ("neon", "int8-dotprod", "fp16")
    assert profile.train_samples == 7


def test_a_machine_may_stand_in_for_a_board(tmp_path: Path) -> None:
    profile = probe("jetson-orin-nano", root=a_tree(tmp_path, free_mib=9999))
    assert profile.board == "jetson-orin-nano"
    assert profile.memory_available_mib == 5530
    assert profile.cores == 6


def test_a_board_of_no_catalog_is_measured_under_its_own_name(tmp_path: Path) -> None:
    profile = probe("toaster", root=a_tree(tmp_path, free_mib=300), storage=tmp_path)
    assert (profile.board, profile.memory_available_mib) == ("toaster", 300)


def test_garbage_in_the_system_files_is_unknown(tmp_path: Path) -> None:
    root = a_tree(tmp_path)
    (root / "proc/meminfo").write_bytes(b"MemAvailable: many kB\n\xff\xfe")
    assert probe(root=root, storage=tmp_path).memory_available_mib is None


def test_a_folder_that_does_not_exist_yet_has_its_disk(tmp_path: Path) -> None:
    assert probe(root=tmp_path, storage=tmp_path / "a" / "b").storage_free_bytes is not None


READ = (
    "proc/device-tree/model",
    "proc/meminfo",
    "proc/cpuinfo",
    "proc/self/cgroup",
    "proc/self/status",
    "proc/net/route",
    "proc/sys/kernel/osrelease",
    "etc/os-release",
    "etc/nvpmodel.conf",
    "var/lib/nvpmodel/status",
    "sys/class/dmi/id/sys_vendor",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/cooling_device0/type",
    "sys/class/thermal/cooling_device0/cur_state",
    "sys/class/power_supply/b/type",
    "sys/class/power_supply/b/capacity",
    "sys/class/power_supply/b/status",
    "sys/class/power_supply/b/online",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "sys/class/net/eth0/speed",
    "sys/class/net/eth0/uevent",
    "sys/class/net/eth0/type",
    "sys/class/net/eth0/ifindex",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor",
)
ROUTE = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\neth0\t00000000\t0\t3\t0\t0\t1\n"
contents = st.one_of(
    st.none(),
    st.binary(max_size=60),
    st.sampled_from([b"-1", b"9" * 400, b"1e308", b"nan", b"max 100000", b"0x50005", b"\0\xff"]),
    st.sampled_from(
        [b"MemTotal: 9 kB\nMemAvailable: x", b"0::/\n4:memory:/a\n:::", ROUTE.encode(), b"battery"]
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(contents, min_size=len(READ), max_size=len(READ)))
def test_no_file_however_damaged_or_missing_stops_the_probe(found: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in zip(READ, found, strict=True):
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.mkdir()  # a folder where a file should be cannot be read either
            else:
                file.write_bytes(content)
        profile = probe(root=Path(folder), storage=Path(folder))
    assert DeviceProfile.from_json(profile.to_json()) == profile
