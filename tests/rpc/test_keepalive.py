"""A client that says nothing for long keeps its connection: time is shortened, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from reefleet.rpc import channel as options
from reefleet.rpc.channel import enrollment_channel
from reefleet.rpc.identity import create_authority, issue_server
from tests.integration.proxy import Passed, Proxy
from tests.integration.running import until

METHOD = "/reefleet.test/Echo"
PING_BYTES = 17 + 22  # an HTTP/2 ping is 17 bytes; a TLS record adds as much and more
PINGS = 5  # as many as a server sends in ten minutes
TRAINING_S = 600.0


class Echo(grpc.GenericRpcHandler):
    """Answers with what it was sent."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


def shortened(given: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
    """The options with pings every tenth of a second."""
    return tuple(
        (name, 100 if name == "grpc.keepalive_time_ms" else value) for name, value in given
    )


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[[bytes], bytes], Proxy]]:
    """A call through a proxy to a server, both ends with shortened times between pings."""
    authority = create_authority("barn")
    certificate, key = issue_server(*authority, [])
    server = grpc.server(futures.ThreadPoolExecutor(1), options=shortened(options.SERVER_OPTIONS))
    server.add_generic_rpc_handlers((Echo(),))
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    proxy = Proxy(server.add_secure_port("127.0.0.1:0", credentials))
    server.start()
    monkeypatch.setattr(options, "CHANNEL_OPTIONS", shortened(options.CHANNEL_OPTIONS))
    with enrollment_channel(f"127.0.0.1:{proxy.port}", authority[0]) as channel:
        yield channel.unary_unary(METHOD), proxy
    proxy.close()
    server.stop(None).wait()


def total(passed: Passed) -> int:
    return min(passed.up, passed.down)


def test_a_connection_outlives_a_long_silence_between_two_calls(
    line: tuple[Callable[[bytes], bytes], Proxy],
) -> None:
    call, proxy = line
    assert call(b"before") == b"before"
    (passed,) = proxy.connections
    silent = total(passed)
    until(lambda: total(passed) >= silent + PINGS * PING_BYTES, "pings and their answers")
    assert call(b"after") == b"after"
    assert len(proxy.connections) == 1


def test_ten_minutes_hold_no_more_pings_than_that() -> None:
    every_ms = dict(options.SERVER_OPTIONS)["grpc.keepalive_time_ms"]
    assert 1000 * TRAINING_S / every_ms <= PINGS
    assert dict(options.SERVER_OPTIONS)["grpc.http2.max_ping_strikes"] == 0
