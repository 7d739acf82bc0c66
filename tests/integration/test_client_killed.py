"""A client killed between the end of its training and the answer to its push."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.integration.fleet import Site
from tests.integration.proxy import Proxy, Way, let_pass
from tests.integration.running import Program, until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]


@pytest.fixture
def site(a_site: Callable[..., Site]) -> Site:
    return a_site()


@pytest.fixture
def proxy(site: Site) -> Iterator[Proxy]:
    made = Proxy(site.fleet_port)
    yield made
    made.close()


@pytest.fixture
def client(site: Site, proxy: Proxy) -> Program:
    return site.client("a", port=proxy.port)


def finished_work(site: Site) -> list[str]:
    """Digests of the updates that the device has trained and that are not acknowledged."""
    entries = site.state_of("a").glob("outbox/[0-9a-f]*/entry.json")
    return [json.loads(entry.read_text())["sha256"] for entry in entries]


def test_an_update_that_had_not_arrived_arrives_once(
    site: Site, proxy: Proxy, client: Program
) -> None:
    pushed = threading.Event()

    def stop_the_coordinator_at_the_push(way: Way, size: int) -> int:
        if way is Way.UP and not pushed.is_set() and finished_work(site):
            site.coordinator.send(signal.SIGSTOP)
            pushed.set()
        return size

    proxy.gate = stop_the_coordinator_at_the_push
    client.start()
    until(pushed.is_set, "the push")
    client.kill()
    (update,) = finished_work(site)
    assert site.updates() == []
    site.coordinator.send(signal.SIGCONT)
    restart_and_check(site, client, update, repeated=False)


def test_an_update_whose_answer_was_lost_arrives_once(
    site: Site, proxy: Proxy, client: Program
) -> None:
    lost = threading.Event()

    def lose_the_answer(way: Way, size: int) -> int:
        if way is Way.DOWN and finished_work(site) and site.updates():
            lost.set()
            return 0
        return size

    proxy.gate = lose_the_answer
    client.start()
    until(lost.is_set, "the loss of the answer")
    client.kill()
    (update,) = finished_work(site)
    assert [found.artifact.sha256 for found in site.updates()] == [update]
    proxy.gate = let_pass
    restart_and_check(site, client, update, repeated=True)


def restart_and_check(site: Site, client: Program, update: str, *, repeated: bool) -> None:
    client.start()
    acknowledged = client.wait_for("update acknowledged")
    version = site.wait_for_version(1)
    client.kill()
    assert acknowledged["repeated"] is repeated
    assert [found.artifact.sha256 for found in site.updates()] == [update]
    assert version.sha256 == site.recomputed(1)
    taken = [entry["kind"] for entry in client.events("task taken")]
    assert taken.count("federate") == 1  # the restart pushes, it does not train again
    assert len(site.coordinator.events("Update accepted")) == 1
    assert finished_work(site) == []
