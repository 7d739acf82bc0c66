"""Connections that cannot come about, over real sockets: within five seconds the cause is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing

import grpc
import pytest

from reefleet.errors import CoordinatorUnavailable, ReefleetError, TlsFailure
from reefleet.rpc import identity
from reefleet.rpc.channel import enrollment_channel, fleet_channel
from reefleet.rpc.identity import Identity
from reefleet.rpc.status import translated
from tests.mosquitto import free_port

EXPLAINED_S = 5.0  # the call's own deadline: later it would end as DeadlineExceeded
METHOD = "/reefleet.test/Call"

Authority = tuple[bytes, bytes]
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return identity.create_authority("barn")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Listen with a certificate; with an authority callers have to show one too."""
    servers: list[grpc.Server] = []

    def start(pair: tuple[bytes, bytes] | None, trusted: bytes | None = None) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        if pair is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            shown = [(pair[1], pair[0])]
            credentials = grpc.ssl_server_credentials(shown, trusted, trusted is not None)
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def complaint(channel: grpc.Channel, address: str) -> ReefleetError:
    with closing(channel), pytest.raises(ReefleetError) as caught, translated(address):
        channel.unary_unary(METHOD)(b"x", timeout=EXPLAINED_S)
    return caught.value


def a_device(authority: Authority, days: float = 30.0) -> Identity:
    key = identity.new_key()
    der = identity.issue_device(*authority, identity.certificate_request(key), "a", days)
    return Identity(identity.certificate_pem(der), key, authority[0])


def test_a_server_of_another_name(authority: Authority, serve: Serve) -> None:
    address = serve(identity.issue_server(*authority, [], "reefleet-broker"))
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, TlsFailure)
    assert "not a Reefleet coordinator" in str(found)
    assert address in str(found)


def test_a_device_in_the_coordinators_place(authority: Authority, serve: Serve) -> None:
    device = a_device(authority)
    address = serve((device.certificate, device.key))
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, TlsFailure)
    assert address in str(found)


def test_another_fleets_authority(authority: Authority, serve: Serve) -> None:
    address = serve(identity.issue_server(*authority, []))
    other, _ = identity.create_authority("barn")
    found = complaint(enrollment_channel(address, other), address)
    assert isinstance(found, TlsFailure)
    assert "another fleet than this CA file" in str(found)


def test_a_clock_that_is_ahead_or_a_certificate_that_is_over(
    authority: Authority, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "SERVER_DAYS", -0.5)
    address = serve(identity.issue_server(*authority, []))
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, TlsFailure)
    assert "expired, or this machine's clock is wrong" in str(found)


def test_a_clock_that_is_behind(
    authority: Authority, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "CLOCK_SLACK", dt.timedelta(days=-1))
    address = serve(identity.issue_server(*authority, []))
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, TlsFailure)
    assert "clock is behind; set the time" in str(found)


def test_a_device_whose_certificate_is_over(
    authority: Authority, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(identity.issue_server(*authority, []), authority[0])
    monkeypatch.setattr(identity, "CLOCK_SLACK", dt.timedelta(days=2))
    found = complaint(fleet_channel(address, a_device(authority, -1.0)), address)
    assert isinstance(found, TlsFailure)
    assert "expired or of another fleet, so enroll it again" in str(found)


def test_a_device_of_another_fleet(authority: Authority, serve: Serve) -> None:
    address = serve(identity.issue_server(*authority, []), authority[0])
    other = a_device(identity.create_authority("barn"))
    shown = Identity(other.certificate, other.key, authority[0])
    found = complaint(fleet_channel(address, shown), address)
    assert isinstance(found, TlsFailure)
    assert "of another fleet" in str(found)


def test_a_port_that_speaks_no_tls(authority: Authority, serve: Serve) -> None:
    address = serve(None)
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, TlsFailure)
    assert "does not speak TLS; check the port" in str(found)


def test_an_address_where_nobody_listens(authority: Authority) -> None:
    address = f"127.0.0.1:{free_port()}"
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, CoordinatorUnavailable)
    assert f"nothing answered as a coordinator at {address}" in str(found)


def test_a_name_that_nobody_has(authority: Authority) -> None:
    address = "no-such-coordinator.invalid:8471"
    found = complaint(enrollment_channel(address, authority[0]), address)
    assert isinstance(found, CoordinatorUnavailable)
    assert "cannot be resolved" in str(found)
