"""Bounds that both ends of the wire agree on; every size a peer announces is held against one."""

from __future__ import annotations

CHUNK_BYTES = 1 << 20  # of a transfer in one message, at the most
MAX_MESSAGE_BYTES = 4 << 20  # a profile or a chunk and its envelope, with room for growth
MAX_ARTIFACT_BYTES = 2 << 30
UPDATE_SLACK_BYTES = 1 << 20

KEEPALIVE_S = 30.0
KEEPALIVE_TIMEOUT_S = 20.0
CALL_TIMEOUT_S = 30.0  # a unary call, or so many bytes of a transfer:
SLOWEST_BYTES = 1 << 19
CONNECT_TIMEOUT_S = 4.0


def transfer_timeout_s(size_bytes: int, call_s: float) -> float:
    """How long a transfer may take on the slowest link that `call_s` allows for."""
    return call_s * (1 + size_bytes / SLOWEST_BYTES)


def max_update_bytes(parameters: int) -> int:
    """Most bytes an update of a sub-model of `parameters` weights may announce."""
    return parameters * 4 * 3 // 2 + UPDATE_SLACK_BYTES
