"""Channels to a coordinator: bounded messages, pings that outlast training, one server name."""

from __future__ import annotations

import grpc

from reefleet.rpc.identity import SERVER_NAME, Identity
from reefleet.rpc.limits import (
    CONNECT_TIMEOUT_S,
    KEEPALIVE_S,
    KEEPALIVE_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
)

LOOKAHEAD_BYTES = 1 << 18

MESSAGE_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    *MESSAGE_OPTIONS,
    ("grpc.keepalive_time_ms", int(KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),  # time to connect
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # the session retries, with its own bound
    # An address may change without a new certificate: the name to check is always the same.
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.default_authority", SERVER_NAME),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *MESSAGE_OPTIONS,
    # A device that trains for minutes still pings; it must not be cut off for that.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
    # Seldom: with a thousand idle devices, each ping counts; a device notices a dead line itself.
    ("grpc.keepalive_time_ms", 600_000),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.so_reuseport", 0),
    # What waits for a thread waits at the sender, not in this process.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    ("grpc.experimental.tcp_max_read_chunk_size", LOOKAHEAD_BYTES),
)


def fleet_channel(address: str, identity: Identity) -> grpc.Channel:
    """A mutual-TLS channel to the fleet port at `address` ("host:port"); connects on first use."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.ca,
        private_key=identity.key,
        certificate_chain=identity.certificate,
    )
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def enrollment_channel(address: str, ca_pem: bytes) -> grpc.Channel:
    """A TLS channel to the enrollment port at `address`; the device shows no certificate yet."""
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    return grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
