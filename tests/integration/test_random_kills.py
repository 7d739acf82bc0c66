"""A run whose coordinator is killed again and again ends as one that was left alone."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.integration.fleet import Site
from tests.integration.proxy import Proxy, Way, let_pass
from tests.integration.running import Program, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

SEED = 20
ROUNDS = 3
# The round from which each kill may fall; 0 is before the first.
KILLS = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3)
MOST_PIECES = 40  # of what passes the proxy, between a kill's round and the kill


@pytest.fixture
def site(a_site: Callable[..., Site]) -> Site:
    return a_site(devices=2, total=ROUNDS)


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    made = Proxy(site.fleet_port)
    yield made
    made.close()


def kill_after(site: Site, proxy: Proxy, pieces: int) -> threading.Event:
    """Have the coordinator killed when so many more pieces have passed the proxy."""
    killed = threading.Event()
    counter = itertools.count()

    def gate(_way: Way, size: int) -> int:
        if next(counter) == pieces:
            site.coordinator.kill()
            killed.set()
        return size

    proxy.gate = gate
    return killed


def acknowledged(client: Program) -> list[int]:
    """Rounds whose update the client was told to be durable."""
    return [entry["round"] for entry in client.events("update acknowledged")]


def durable(site: Site) -> dict[tuple[int, str], str]:
    return {(u.round, u.device_id): u.artifact.sha256 for u in site.updates()}


def test_every_acknowledged_update_is_counted_once(
    site: Site, proxy: Proxy, finished: Site
) -> None:
    rng = random.Random(SEED)
    clients = {name: site.client(name, port=proxy.port) for name in ("a", "b")}
    for client in clients.values():
        client.start()
    before: dict[tuple[int, str], str] = {}
    versions = [-1]
    for number in KILLS:
        until(partial(site.has_opened, number), f"round {number}")
        killed = kill_after(site, proxy, rng.randrange(MOST_PIECES))
        until(killed.is_set, f"a kill in round {number}")
        proxy.gate = let_pass
        told = {(r, name) for name, client in clients.items() for r in acknowledged(client)}
        site.start()
        now = durable(site)
        assert told <= now.keys()
        assert before.items() <= now.items()
        before = now
        versions.append(site.latest())
    assert [client.end() for client in clients.values()] == [0, 0]
    assert versions == sorted(versions)
    assert sorted(durable(site)) == [(r, name) for r in range(1, ROUNDS + 1) for name in "ab"]
    for name, client in clients.items():
        assert acknowledged(client) == [1, 2, 3], name
    for number in range(1, ROUNDS + 1):
        assert site.wait_for_version(number).sha256 == site.recomputed(number)
    assert site.version(ROUNDS) == finished.version(ROUNDS)
