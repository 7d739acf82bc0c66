"""Calls that arrive twice, and again much later in any order, change no bit of the model."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest

from edge_client.session import Session
from reefleet.errors import WireError
from reefleet.rpc.limits import CHUNK_BYTES
from tests.integration.conftest import WITHOUT_TORCH
from tests.integration.fleet import SMALL, Rules, Site, a_contract
from tests.integration.running import until
from tests.integration.speaker import Device, artifact_of

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROUNDS = 3
NAMES = ("a", "b")
MOST_REPLAYED = 6  # old calls that come along with each new one


class Replaying(grpc.UnaryUnaryClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Sends each call twice, and some earlier ones before it."""

    def __init__(self, seed: int) -> None:
        self.sent = 0
        self._rng = random.Random(seed)
        self._past: list[Callable[[], Any]] = []

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._repeated(lambda: continuation(details, request))

    def intercept_stream_unary(self, continuation: Any, details: Any, requests: Any) -> Any:
        kept = list(requests)
        return self._repeated(lambda: continuation(details, iter(kept)))

    def _repeated(self, call: Callable[[], Any]) -> Any:
        def send() -> Any:
            self.sent += 1
            return call()

        for earlier in self._rng.sample(self._past, min(len(self._past), MOST_REPLAYED)):
            with suppress(grpc.RpcError):  # what is long over may be refused
                earlier().result()
        first = send()
        with suppress(grpc.RpcError):
            first.result()
        self._past.append(send)
        second = send()
        assert _is_as_good(first, second)
        return second


def _is_as_good(first: grpc.Call, second: grpc.Call) -> bool:
    return bool(first.code() == second.code() or second.code() is grpc.StatusCode.OK)


def replayed(session: Session, seed: int) -> Replaying:
    """Have every later call of a session repeated."""
    made = Replaying(seed)
    session._speak_over(grpc.intercept_channel(session._channel, made))
    return made


@pytest.fixture
def a_site(tmp_path_factory: pytest.TempPathFactory) -> Any:
    cache = tmp_path_factory.mktemp("stand-ins")
    made: list[Site] = []

    def build(name: str) -> tuple[Site, dict[str, Device]]:
        root = tmp_path_factory.mktemp(name) / "site"
        rules = Rules(len(NAMES), ROUNDS, serve=WITHOUT_TORCH)
        site = Site(root, a_contract(SMALL), cache, rules)
        made.append(site)
        site.start()
        return site, {device: Device(site.enroll(device), SMALL) for device in NAMES}

    yield build
    for site in made:
        site.close()


def run_through(site: Site, devices: dict[str, Device]) -> list[str]:
    for device in devices.values():
        device.report()
    found = []
    for number in range(1, ROUNDS + 1):
        for device in devices.values():
            task = device.task()
            assert task.round == number
            device.push(task)
        found.append(site.wait_for_version(number).sha256)
    return found


def test_a_run_in_which_every_call_comes_twice_and_again_later_is_the_same_run(
    a_site: Any,
) -> None:
    expected = run_through(*a_site("once"))
    site, devices = a_site("again")
    lines = [replayed(device.session, seed) for seed, device in enumerate(devices.values())]
    assert run_through(site, devices) == expected
    assert all(line.sent > 5 * ROUNDS * 4 for line in lines)
    assert [(u.round, u.device_id) for u in site.updates()] == [
        (number, name) for number in range(1, ROUNDS + 1) for name in NAMES
    ]


def test_chunks_that_come_out_of_order_and_twice_make_the_same_update(a_site: Any) -> None:
    site, devices = a_site("chunks")
    for device in devices.values():
        device.report()
    device = devices["a"]
    task = device.task()
    data = device.coded(task)
    announced = artifact_of(data)
    piece = len(data) // 7
    assert piece < CHUNK_BYTES
    starts = list(range(0, len(data), piece))
    assert device.session.open_update(task.lease, announced) == 0
    order = starts * 4
    random.Random(3).shuffle(order)
    held = 0
    for start in [*order, *starts]:
        chunk = data[start : start + piece]
        if start > held:
            with pytest.raises(WireError, match="does not follow"):
                device.put(task.lease, announced, start, chunk)
        else:
            held = max(held, device.put(task.lease, announced, start, chunk))
    assert held == len(data)
    assert device.commit(task, announced) is False
    devices["b"].push(devices["b"].task())
    assert until(lambda: site.version(1), "version 1").sha256 == site.recomputed(1)
