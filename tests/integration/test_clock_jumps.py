"""Real processes whose date jumps, by libfaketime: a coordinator in mid-round, a client at boot."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import records as r
from tests.integration.conftest import QUICK
from tests.integration.fleet import WIDE, Rules, Site, a_contract
from tests.integration.running import until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

ROUNDS = 4
DAY_S = 86400
DEADLINE_S = 6.0


class Date:
    """The date of processes that are told to look into a file; their steady clock is untouched."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process see it."""
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, text: str) -> None:
        """ "+N" seconds from now on, or "@YYYY-MM-DD hh:mm:ss"."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._file)


@pytest.fixture
def date(tmp_path: Path) -> Date:
    return Date(tmp_path / "date")


@pytest.fixture
def not_begun(tmp_path: Path, compiled: Path, date: Date) -> Iterator[Site]:
    made = Site(tmp_path / "site", a_contract(WIDE), compiled, Rules(2, ROUNDS, QUICK))
    made.coordinator.environment = date.environment
    yield made
    made.close()


@pytest.fixture
def site(not_begun: Site) -> Site:
    not_begun.start()
    return not_begun


@pytest.fixture
def impatient(not_begun: Site) -> Site:
    config = not_begun.folder.config
    hurried = f"quorum = 1.0\ndeadline_s = {DEADLINE_S}"
    config.write_text(config.read_text().replace("quorum = 1.0", hurried))
    not_begun.start()
    return not_begun


def closed(site: Site) -> list[r.Round]:
    with site.store() as store:
        return [found for found in store.rounds() if found.state == r.CLOSED]


def test_rounds_pass_while_the_coordinators_date_jumps_a_day_ahead_and_back(
    site: Site, date: Date
) -> None:
    clients = [site.client(name) for name in "ab"]
    for client in clients:
        client.start()
    for number, jump in enumerate(("+86400", "+0", "-86000"), start=1):
        until(lambda n=number: site.has_opened(n), f"round {number}")
        date.set(jump)  # in the middle of it, so that the next one opens at this date
    assert [client.end() for client in clients] == [0, 0]
    rounds = closed(site)
    assert [found.result_version for found in rounds] == list(range(1, ROUNDS + 1))
    assert {found.reason for found in rounds} <= {"quorum", "complete"}
    dates = [found.opened_at for found in rounds]
    assert max(dates) - min(dates) > DAY_S  # it did jump


@pytest.mark.parametrize("jump", ["+86400", "-86000"])
def test_a_deadline_passes_when_so_much_time_has_passed_whatever_the_date(
    impatient: Site, date: Date, jump: str
) -> None:
    site = impatient
    working, silent = (site.client(name) for name in "ab")
    for client in (working, silent):
        client.start()
    site.wait_for_version(1)
    silent.send(signal.SIGSTOP)
    before = len(closed(site))
    until(lambda: site.has_opened(before + 2), "a round that one device is silent in")
    seen = time.monotonic()
    date.set(jump)
    number = before + 2
    until(lambda: len(closed(site)) >= number, "the deadline")
    passed_s = time.monotonic() - seen
    found = closed(site)[number - 1]
    assert found.reason == "deadline"
    assert passed_s > DEADLINE_S / 2
    silent.send(signal.SIGCONT)


def test_a_client_that_boots_in_1970_says_so_and_works_once_its_clock_is_set(
    site: Site, tmp_path: Path
) -> None:
    boot = Date(tmp_path / "boot")
    boot.set("@1970-01-02 00:00:00")
    late, other = site.client("a"), site.client("b")
    late.environment = boot.environment
    late._command = [word for word in late._command if word != "--until-finished"]
    late.start()
    told = late.wait_for("link changed")
    assert "clock is behind; set the time" in told["reason"]
    other.start()
    boot.set("+0")
    assert other.end() == 0
    assert late.code is None
    assert len(closed(site)) == ROUNDS
