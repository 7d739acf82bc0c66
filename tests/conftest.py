"""Property tests draw the same examples every time; a PostgreSQL server for whom it may concern."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from coordinator.store.address import Address, address_of
from tests.postgresql import Server

# Before anything loads gRPC, whose handlers end a child that is forked after a server was open.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running server."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def an_address(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Address]:
    """Name a new, empty database of a kind, "sqlite" or "postgresql"."""

    def build(kind: str) -> Address:
        if kind == "postgresql":
            server: Server = request.getfixturevalue("postgresql")
            return address_of(server.database(), tmp_path)
        return address_of("", tmp_path / "state.db")

    return build
