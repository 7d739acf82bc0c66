"""Devices that train at their own pace, with no round to wait for, finish the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.fleet import Site

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

VERSIONS = 3
BUFFER = 3  # more than there are devices: each works several times for a version


def test_two_devices_fill_buffers_of_three(a_site: Callable[..., Site]) -> None:
    site = a_site(devices=2, total=VERSIONS)
    site.coordinator.kill()
    text = site.folder.config.read_text()
    asynchronous = f'[rounds]\nmode = "async"\nbuffer = {BUFFER}\n'
    site.folder.config.write_text(text.replace("[rounds]\n", asynchronous))
    site.start()
    clients = [site.client(name) for name in ("a", "b")]
    for client in clients:
        client.start()
    assert [client.end() for client in clients] == [0, 0]
    with site.store() as store:
        assert store.latest_version().number == VERSIONS
        assert [len(store.updates(number)) for number in range(1, VERSIONS + 1)] == [BUFFER] * 3
        updates = store.updates()
        assert {update.device_id for update in updates} == {"a", "b"}
        assert len({update.artifact.sha256 for update in updates}) == len(updates)
        assert all(update.base_version < VERSIONS for update in updates)
        assert [report.device_id for report in store.reports()] == ["a", "b"]
