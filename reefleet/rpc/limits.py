"""Bounds that both ends of the wire agree on; every size a peer announces is held against one."""

from __future__ import annotations

CHUNK_BYTES = 1 << 20
MAX_MESSAGE_BYTES = 4 << 20  # a chunk and its envelope, with room for manifests' growth
MAX_ARTIFACT_BYTES = 2 << 30
UPDATE_SLACK_BYTES = 1 << 20

KEEPALIVE_S = 30.0
KEEPALIVE_TIMEOUT_S = 20.0
CALL_TIMEOUT_S = 30.0  # one unary call, chunk included, on a slow link
CONNECT_TIMEOUT_S = 4.0


def max_update_bytes(parameters: int) -> int:
    """Most bytes an update of a sub-model of `parameters` weights may announce."""
    return parameters * 4 * 3 // 2 + UPDATE_SLACK_BYTES
