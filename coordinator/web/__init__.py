"""The built-in page: a read-only view of the fleet, served by the coordinator to browsers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.config import CoordinatorConfig

if TYPE_CHECKING:
    from coordinator.web.view import Sources


def open_page(
    sources: Sources, config: CoordinatorConfig, token: str, pair: tuple[bytes, bytes]
) -> tuple[int, Callable[[], None]]:
    """Serve the page as `config.web` says; the port, and what ends it. Raises OSError.

    `token` and `pair` (certificate and key, PEM) serve where others than this machine can call.
    """
    from coordinator.web.app import build
    from coordinator.web.login import Logins, Names, is_loopback
    from coordinator.web.server import serve
    from coordinator.web.view import View

    wanted = config.web
    is_private = is_loopback(wanted.host)
    app = build(
        View(sources, config),
        Names.of(wanted) if is_private else None,
        None if is_private else Logins(token, sources.clock),
    )
    return serve(app, wanted.host, wanted.port, None if is_private else pair)
