"""The page's listener: uvicorn in a thread of its own, HTTPS wherever others can reach it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from reefleet.rpc.tls import server_context

MAX_CALLS = 64
STOP_GRACE_S = 2
KEEP_ALIVE_S = 10
MAX_HEADER_BYTES = 16 << 10


def serve(
    app: Any, host: str, port: int, shown: tuple[bytes, bytes] | None
) -> tuple[int, Callable[[], None]]:
    """Answer browsers at `host`:`port`; the port, and what ends it. Raises OSError.

    With `shown`, certificate and key (PEM), it speaks HTTPS.
    """
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CALLS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_GRACE_S,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    if shown is not None:
        config.load()
        config.ssl = server_context(*shown)  # the settings know files only
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listening]}, name="web", daemon=True
    )
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()
        listening.close()

    return int(listening.getsockname()[1]), stop


def _listen(host: str, port: int) -> socket.socket:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)
