"""Errors over the wire: the client raises what the server raised."""

from __future__ import annotations

import socket
from concurrent import futures
from typing import Any

import grpc
import pytest

from reefleet import errors
from reefleet.errors import ReefleetError
from reefleet.rpc.channel import enrollment_channel
from reefleet.rpc.identity import create_authority, issue_server
from reefleet.rpc.status import from_rpc, refusals, status_of, translated

ALL = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ReefleetError)
    ),
    key=lambda kind: kind.__name__,
)
METHOD = "/reefleet.test/Call"


class Raising(grpc.GenericRpcHandler):
    """A service whose only method raises the error named in the request."""

    def service(self, details: str) -> Any:
        def call(request: bytes, context: grpc.ServicerContext) -> Any:
            with refusals(context):
                msg = "a sentence: größer"
                raise vars(errors)[request.decode()](msg)

        return grpc.unary_unary_rpc_method_handler(call) if details.method == METHOD else None


class Failed(grpc.RpcError):
    """What grpc raises, without a call."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailing: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__()
        self.code = lambda: code
        self.details = lambda: details
        self.trailing_metadata = lambda: trailing


@pytest.fixture(scope="module")
def authority() -> Any:
    return create_authority("barn")


@pytest.fixture(scope="module")
def address(authority: tuple[bytes, bytes]) -> Any:
    certificate, key = issue_server(*authority, [])
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Raising(),))
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def channel(address: str, authority: tuple[bytes, bytes]) -> Any:
    with enrollment_channel(address, authority[0]) as channel:
        yield channel


@pytest.mark.parametrize("kind", ALL)
def test_each_error_arrives_as_the_class_that_was_raised(
    channel: grpc.Channel, address: str, kind: type[ReefleetError]
) -> None:
    with pytest.raises(ReefleetError, match="a sentence: größer") as caught, translated(address):
        channel.unary_unary(METHOD)(kind.__name__.encode())
    assert type(caught.value) is kind


@pytest.mark.parametrize("kind", ALL)
def test_each_error_has_a_status_code(kind: type[ReefleetError]) -> None:
    assert status_of(kind("x")) is not grpc.StatusCode.OK


def test_an_unknown_method_says_that_versions_differ(channel: grpc.Channel, address: str) -> None:
    with pytest.raises(errors.UnsupportedVersion), translated(address):
        channel.unary_unary("/reefleet.test/Newer")(b"")


def test_a_class_from_a_newer_peer_falls_back_to_its_status() -> None:
    error = Failed(grpc.StatusCode.FAILED_PRECONDITION, "no", (("reefleet-error", "TooNew"),))
    assert isinstance(from_rpc(error, "x:1"), errors.Rejected)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", errors.PayloadTooLarge),
        ("RESOURCE_EXHAUSTED", "Concurrent RPC limit", errors.CoordinatorUnavailable),
        ("CANCELLED", "Channel closed", errors.CoordinatorUnavailable),
        ("UNKNOWN", "Exception calling application", errors.RpcError),
        ("UNAVAILABLE", "Socket closed", errors.CoordinatorUnavailable),
        ("UNAVAILABLE", "failed to connect: Socket closed", errors.CoordinatorUnavailable),
        ("UNAVAILABLE", "errors resolving name:1", errors.CoordinatorUnavailable),
        ("UNAVAILABLE", "x CERTIFICATE_VERIFY_FAILED y", errors.TlsFailure),
        ("UNAVAILABLE", "x certificate has expired y", errors.TlsFailure),
    ],
)
def test_what_grpc_says_itself_becomes_the_class_a_client_acts_on(
    code: str, details: str, kind: type[ReefleetError]
) -> None:
    found = from_rpc(Failed(grpc.StatusCode[code], details), "127.0.0.1:1")
    assert type(found) is kind


def test_nobody_at_the_address_is_said_with_the_address(authority: tuple[bytes, bytes]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with (
            enrollment_channel(address, authority[0]) as channel,
            pytest.raises(errors.CoordinatorUnavailable, match=address),
            translated(address),
        ):
            channel.unary_unary(METHOD)(b"x", timeout=10)


def test_another_fleets_authority_is_told_apart_from_an_absent_server(address: str) -> None:
    other, _ = create_authority("barn")
    with (
        enrollment_channel(address, other) as channel,
        pytest.raises(errors.TlsFailure, match="another fleet"),
        translated(address),
    ):
        channel.unary_unary(METHOD)(b"x", timeout=10)


def test_a_port_without_tls_is_said(authority: tuple[bytes, bytes]) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with (
        enrollment_channel(address, authority[0]) as channel,
        pytest.raises(errors.TlsFailure, match="does not speak TLS"),
        translated(address),
    ):
        channel.unary_unary(METHOD)(b"x", timeout=10)
    server.stop(None).wait()
