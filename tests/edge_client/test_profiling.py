from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devices.conditions import Conditions
from devices.profile import DeviceProfile, Timing
from devices.signed import require_signed
from edge_client import profiling
from edge_client.profiling import CHECK_EVERY_S, Profiler, is_news
from reefleet.rpc.identity import create_authority

CERTIFICATE, KEY = create_authority("test")
HERE = DeviceProfile("", memory_available_mib=1000, cores=4, cpu="Test CPU")
TIMING = Timing("answer", "narrow-2", 2, 1, 2.0, 0.1)


class Watched:
    """A profiler over a machine that the test changes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = HERE
        self.now = 0.0
        self.runs = 0
        self.reports: list[DeviceProfile] = []
        monkeypatch.setattr(profiling, "probe", lambda *_, **__: self.machine)
        self.profiler = self.another(folder)

    def another(self, folder: Path) -> Profiler:
        return Profiler(
            folder,
            "",
            7,
            lambda: KEY,
            report=self.reports.append,
            benchmark=self.benchmark,
            monotonic=lambda: self.now,
        )

    def benchmark(self, _threads: int, _seconds: float, _mib: int | None) -> tuple[Timing, ...]:
        self.runs += 1
        return (TIMING,)


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_the_first_profile_is_timed_and_signed(watched: Watched) -> None:
    profile = watched.profiler.first()
    assert profile.timings == (TIMING,)
    require_signed(profile, CERTIFICATE)


def test_the_benchmark_is_not_repeated_while_nothing_it_depends_on_changed(
    watched: Watched, tmp_path: Path
) -> None:
    watched.profiler.first()
    assert watched.another(tmp_path).first().timings == (TIMING,)
    assert watched.runs == 1
    watched.machine = replace(HERE, conditions=Conditions(clock_mhz=600))
    watched.another(tmp_path).first()
    assert watched.runs == 2


def test_a_stand_in_and_a_throttled_board_are_not_timed(watched: Watched) -> None:
    watched.machine = DeviceProfile("rpi-4b", memory_available_mib=1000)
    assert watched.profiler.first().timings == ()
    watched.machine = replace(HERE, conditions=Conditions(throttled=True))
    assert watched.profiler.first().timings == ()
    assert watched.runs == 0


def test_changed_conditions_are_reported_once_signed_and_with_the_timings(
    watched: Watched,
) -> None:
    watched.profiler.first()
    watched.machine = replace(HERE, conditions=Conditions(throttled=True))
    watched.now = CHECK_EVERY_S + 1
    watched.profiler.report_if_changed()
    watched.profiler.report_if_changed()
    watched.now *= 2
    watched.profiler.report_if_changed()
    assert [report.conditions.throttled for report in watched.reports] == [True]
    assert watched.reports[0].timings == (TIMING,)
    require_signed(watched.reports[0], CERTIFICATE)


def test_nothing_is_looked_at_between_two_looks(watched: Watched) -> None:
    watched.profiler.first()
    watched.machine = replace(HERE, memory_available_mib=10)
    watched.now = CHECK_EVERY_S - 1
    watched.profiler.report_if_changed()
    assert watched.reports == []


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({"memory_available_mib": 900}, False),
        ({"memory_available_mib": 700}, True),
        ({"memory_available_mib": 1400}, True),
        ({"memory_limit_mib": 512}, True),
        ({"conditions": Conditions(temperature_c=70)}, False),
        ({"conditions": Conditions(power_mode="15W")}, True),
        ({"storage_free_bytes": 5}, False),
    ],
)
def test_what_is_news(change: dict[str, object], news: bool) -> None:
    assert is_news(HERE, replace(HERE, **change)) is news  # type: ignore[arg-type]


def test_a_damaged_file_of_timings_is_measured_again(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / profiling.FILE).write_text("{", encoding="utf-8")
    assert watched.profiler.first().timings == (TIMING,)
