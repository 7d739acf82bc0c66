"""A certificate is renewed in time, whatever the board's clocks do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_client import enrollment
from edge_client.enrollment import Enrollment
from edge_client.renewal import LONGEST_RETRY_S, Renewal
from reefleet.errors import NotEnrolled, Rejected, WireError
from reefleet.rpc import identity

DAY_S = 86400.0
LIFE_S = 30 * DAY_S


class Office:
    """Issues certificates, and remembers what it was asked and shown."""

    def __init__(self) -> None:
        self.authority = identity.create_authority("tests")
        self.asked: list[bytes] = []
        self.shown: list[identity.Identity] = []
        self.error: Exception | None = None
        self.name = "a"

    def renew_certificate(self, request_der: bytes) -> bytes:
        self.asked.append(request_der)
        if self.error:
            raise self.error
        return identity.issue_device(*self.authority, request_der, self.name)

    def use(self, shown: identity.Identity) -> None:
        self.shown.append(shown)


class Board:
    """An enrolled board whose clocks are turned by hand."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.office = Office()
        key = identity.new_key()
        der = identity.issue_device(*self.office.authority, identity.certificate_request(key), "a")
        shown = identity.Identity(identity.certificate_pem(der), key, self.office.authority[0])
        issued = identity.certificate_facts(der).issued_at
        self.first = Enrollment("a", "rpi-4b", "h:1", b"k" * 32, shown, issued, LIFE_S)
        enrollment._write(state / enrollment.FOLDER, self.first)
        self.now, self.ticks = issued, 0.0
        self.start()

    def start(self) -> None:
        enrolled = enrollment.load(self.state)
        self.renewal = Renewal(
            self.state, enrolled, self.office, lambda: self.now, lambda: self.ticks
        )

    def pass_s(self, seconds: float) -> int:
        """Let time pass, look whether to renew; how often it was asked so far."""
        self.now += seconds
        self.ticks += seconds
        self.renewal.renew_if_due()
        return len(self.office.asked)


@pytest.fixture
def board(tmp_path: Path) -> Any:
    return Board(tmp_path)


def test_it_is_renewed_at_two_thirds_of_its_life_and_then_again(board: Board) -> None:
    assert board.pass_s(19.9 * DAY_S) == 0
    assert board.pass_s(0.2 * DAY_S) == 1
    assert board.pass_s(19.9 * DAY_S) == 1
    assert board.pass_s(0.2 * DAY_S) == 2


def test_the_new_key_is_kept_and_shown_and_never_sent(board: Board) -> None:
    board.pass_s(21 * DAY_S)
    kept = enrollment.load(board.state)
    assert board.office.shown == [kept.identity]
    assert kept.identity.key != board.first.identity.key
    assert (kept.device_id, kept.address) == ("a", "h:1")
    facts = identity.certificate_facts(kept.identity.certificate)
    assert kept.issued_at == facts.issued_at
    assert b"PRIVATE" not in b"".join(board.office.asked)


def test_after_a_restart_the_time_that_is_left_counts(board: Board) -> None:
    board.pass_s(15 * DAY_S)
    board.start()
    assert board.pass_s(4.9 * DAY_S) == 0
    assert board.pass_s(0.2 * DAY_S) == 1


def test_a_date_that_lags_does_not_delay_it(board: Board) -> None:
    board.now = 0.0
    board.start()
    assert board.pass_s(20.1 * DAY_S) == 1


def test_a_date_that_runs_ahead_renews_once_and_not_with_each_look(board: Board) -> None:
    board.now += 20 * 365 * DAY_S
    board.start()
    assert board.pass_s(0) == 1
    assert board.pass_s(60) == 1
    assert board.pass_s(20.1 * DAY_S) == 2


def test_sleep_that_only_the_date_sees_counts(board: Board) -> None:
    board.now += 20.1 * DAY_S
    board.renewal.renew_if_due()
    assert len(board.office.asked) == 1


def test_a_failure_is_tried_again_later_and_changes_nothing(board: Board) -> None:
    board.office.error = Rejected("not now")
    assert board.pass_s(20.1 * DAY_S) == 1
    assert board.pass_s(60) == 1
    assert enrollment.load(board.state) == board.first
    board.office.error = None
    assert board.pass_s(LONGEST_RETRY_S) == 2
    assert enrollment.load(board.state) != board.first


def test_a_revocation_ends_the_client(board: Board) -> None:
    board.office.error = NotEnrolled("revoked")
    with pytest.raises(NotEnrolled):
        board.pass_s(21 * DAY_S)


def test_a_certificate_of_somebody_else_is_not_kept(board: Board) -> None:
    board.office.name = "b"
    board.pass_s(21 * DAY_S)
    assert enrollment.load(board.state) == board.first
    assert board.office.shown == []
    with pytest.raises(WireError, match="'b'"):
        board.renewal._renew()
