"""What both ends agree on, and what the client's rooms must not load."""

from __future__ import annotations

import subprocess
import sys

from reefleet.rpc.channel import CHANNEL_OPTIONS, SERVER_OPTIONS
from reefleet.rpc.limits import CHUNK_BYTES, MAX_MESSAGE_BYTES, max_update_bytes


def test_a_chunk_and_its_envelope_fit_into_a_message() -> None:
    assert CHUNK_BYTES * 2 < MAX_MESSAGE_BYTES
    for options in (CHANNEL_OPTIONS, SERVER_OPTIONS):
        bounds = dict(options)
        assert bounds["grpc.max_receive_message_length"] == MAX_MESSAGE_BYTES
        assert bounds["grpc.max_send_message_length"] == MAX_MESSAGE_BYTES


def test_the_server_lets_clients_ping_more_often_than_they_do() -> None:
    server, client = dict(SERVER_OPTIONS), dict(CHANNEL_OPTIONS)
    allowed = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert allowed < int(client["grpc.keepalive_time_ms"])
    assert server["grpc.http2.max_ping_strikes"] == 0


def test_an_update_of_any_codec_is_within_the_bound_of_its_size() -> None:
    assert max_update_bytes(1000) > 1000 * 4
    assert max_update_bytes(5_700_000) < 5_700_000 * 4 * 2


def test_the_rooms_load_neither_cryptography_nor_numpy_before_they_are_used() -> None:
    code = (
        "import sys; import reefleet.rpc.channel, reefleet.rpc.identity, reefleet.rpc.status;"
        "print([m for m in ('cryptography', 'numpy', 'sqlalchemy', 'torch') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
