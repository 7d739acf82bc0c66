"""Strangers at a coordinator process: no token, no certificate, or those of somebody else."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_client.enrollment import CA_FILE, CERTIFICATE_FILE, FOLDER, KEY_FILE, Request, enroll
from reefleet.errors import NotEnrolled, Rejected, TlsFailure
from reefleet.rpc import identity
from reefleet.rpc.channel import enrollment_channel
from reefleet.rpc.identity import Identity
from reefleet.rpc.status import translated
from reefleet.v1 import fleet_pb2, fleet_pb2_grpc
from tests.integration.fleet import Site
from tests.integration.speaker import Device

pytestmark = pytest.mark.integration

LONGEST_S = 5.0  # until a stranger knows that it is one

Authority = tuple[bytes, bytes]


@pytest.fixture(scope="module")
def site(a_silent_site: Callable[..., Site]) -> Site:
    return a_silent_site("strangers", devices=1)


@pytest.fixture(scope="module")
def member(site: Site) -> Device:
    """A device of this fleet whose work is open."""
    device = Device(site.enroll("member"), site.contract.spec)
    device.report()
    device.task()
    return device


@pytest.fixture(scope="module")
def stranger() -> Authority:
    """The authority of another fleet."""
    return identity.create_authority("another barn")


def view(site: Site) -> tuple[Any, ...]:
    with site.store() as store:
        devices = [(device.device_id, device.fingerprint) for device in store.devices()]
        return devices, store.updates(), store.rounds(), store.refusals()


def still_works(member: Device) -> None:
    assert member.task().round == 1


def ask_to_enroll(site: Site, token: str, state: Path, ca: Path | None = None) -> None:
    server = f"127.0.0.1:{site.enrollment_port}"
    enroll(Request(server, (ca or site.folder.ca_cert).read_bytes(), token, ""), state)


def unknown_token(_site: Site, _folder: Path) -> str:
    return "guess"


def expired_token(site: Site, _folder: Path) -> str:
    return site.token("late", ttl_s=1e-3)


def used_token(site: Site, folder: Path) -> str:
    token = site.token("early")
    ask_to_enroll(site, token, folder / "first")
    return token


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (unknown_token, "not known here"),
        (expired_token, "has expired"),
        (used_token, "used already"),
    ],
)
def test_a_token_that_is_not_good_lets_nobody_in(
    site: Site,
    member: Device,
    tmp_path: Path,
    made: Callable[[Site, Path], str],
    words: str,
) -> None:
    token = made(site, tmp_path)
    before = view(site)
    with pytest.raises(Rejected, match=words):
        ask_to_enroll(site, token, tmp_path / "state")
    assert not (tmp_path / "state").exists()
    assert view(site) == before
    still_works(member)


def of_fleet(authority: Authority, name: str, days: int = 1) -> Identity:
    """What a device called `name` of a fleet would show and trust."""
    key = identity.new_key()
    request = identity.certificate_request(key)
    certificate = identity.issue_device(*authority, request, name, days)
    return Identity(identity.certificate_pem(certificate), key, authority[0])


def as_if_of_here(site: Site, _member: Device, stranger: Authority) -> Identity:
    """A certificate of another fleet, with the name of a device of this one."""
    return replace(of_fleet(stranger, "member"), ca=site.folder.ca_cert.read_bytes())


def of_another_fleet(_site: Site, _member: Device, stranger: Authority) -> Identity:
    return of_fleet(stranger, "member")


def with_another_ca(_site: Site, member: Device, stranger: Authority) -> Identity:
    return replace(member.enrolled.identity, ca=stranger[0])


def expired(site: Site, _member: Device, _stranger: Authority) -> Identity:
    own = (site.folder.ca_cert.read_bytes(), site.folder.ca_key.read_bytes())
    return of_fleet(own, "member", days=0)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (as_if_of_here, "certificate is missing, expired or of another fleet, so enroll it again"),
        (of_another_fleet, "belongs to another fleet than this CA file"),
        (with_another_ca, "belongs to another fleet than this CA file"),
        (expired, "certificate is missing, expired or of another fleet, so enroll it again"),
    ],
)
def test_a_certificate_that_is_not_good_fails_soon_and_says_why(
    site: Site,
    member: Device,
    stranger: Authority,
    shown: Callable[[Site, Device, Authority], Identity],
    words: str,
) -> None:
    before = view(site)
    caller = replace(member.enrolled, identity=shown(site, member, stranger))
    begun = time.monotonic()
    with closing(Device(caller, site.contract.spec).session) as session:
        with pytest.raises(TlsFailure, match=words):
            session.next_task()
        assert time.monotonic() - begun < LONGEST_S
    assert view(site) == before
    still_works(member)


def test_no_certificate_fails_soon_and_says_why(site: Site, member: Device) -> None:
    begun = time.monotonic()
    address = f"127.0.0.1:{site.fleet_port}"
    with enrollment_channel(address, site.folder.ca_cert.read_bytes()) as channel:
        stub = fleet_pb2_grpc.FleetServiceStub(channel)
        with pytest.raises(TlsFailure, match="certificate is missing"), translated(address):
            stub.NextTask(fleet_pb2.NextTaskRequest())
    assert time.monotonic() - begun < LONGEST_S
    still_works(member)


def test_enrolling_at_the_coordinator_of_another_fleet_fails_soon_and_says_why(
    site: Site, member: Device, stranger: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_bytes(stranger[0])
    token, before, begun = site.token("lost"), view(site), time.monotonic()
    with pytest.raises(TlsFailure, match="belongs to another fleet than this CA file"):
        ask_to_enroll(site, token, tmp_path / "state", ca)
    assert time.monotonic() - begun < LONGEST_S
    assert not (tmp_path / "state").exists()
    assert view(site) == before
    still_works(member)


def test_a_name_that_was_never_enrolled_is_not_let_in(site: Site, member: Device) -> None:
    own = (site.folder.ca_cert.read_bytes(), site.folder.ca_key.read_bytes())
    before = view(site)
    ghost = replace(member.enrolled, identity=of_fleet(own, "ghost"))
    with (
        closing(Device(ghost, site.contract.spec).session) as session,
        pytest.raises(NotEnrolled, match="'ghost' is not enrolled here"),
    ):
        session.next_task()
    assert view(site) == before
    still_works(member)


def test_a_client_of_another_fleet_ends_and_says_why(
    site: Site, member: Device, stranger: Authority
) -> None:
    client = site.client("turncoat")
    before, shown = view(site), as_if_of_here(site, member, stranger)
    folder = site.state_of("turncoat") / FOLDER
    for name, data in (
        (CERTIFICATE_FILE, shown.certificate),
        (KEY_FILE, shown.key),
        (CA_FILE, shown.ca),
    ):
        (folder / name).write_bytes(data)
    client.start()
    assert client.end() == 77
    last = client.log.read_text().splitlines()[-1]
    assert last.startswith("reefleet: ")
    assert "so enroll it again" in last
    assert view(site) == before
    still_works(member)
