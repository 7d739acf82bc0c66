"""Transfers that are cut in the middle: what the receiving end holds is not sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from coordinator.records import Assignment
from edge_client.transfer import OWNER
from reefleet.blobs import BlobStore
from reefleet.rpc.pace import FIRST_BYTES
from tests.integration.fleet import Site
from tests.integration.proxy import CutOnce, Proxy, Way
from tests.integration.running import Program, until
from tests.integration.speaker import Device

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.torch]

# Handshake, headers and the calls beside the transfer, which are all small.
ENVELOPE_BYTES = 96 << 10
# What is on its way at the cut may be lost, but not all of it: the first messages are small.
PASSED_BYTES = 7 << 18


@dataclass
class Line:
    """A site and one device whose calls all pass through a proxy; its round is open.

    A second device never answers. So the round stays open, and after its update the first one has
    nothing to fetch.
    """

    site: Site
    client: Program
    proxy: Proxy
    work: Assignment
    file_bytes: int  # manifest and graphs, which are fetched before the weights

    @property
    def update_bytes(self) -> int:
        """Size of the one update that was pushed."""
        (update,) = self.site.updates()
        return update.artifact.size_bytes

    def cut_after(self, way: Way, size: int, blobs: BlobStore) -> CutOnce:
        """Start the client and cut its connection when so much has passed one way to `blobs`."""
        gate = CutOnce(way, size, lambda: sum(path.stat().st_size for path in blobs.partials()))
        self.proxy.gate = gate
        self.client.start()
        until(gate.cut.is_set, "the cut")
        return gate

    def later(self, way: Way) -> int:
        """Bytes that passed on all connections but the one that was cut."""
        return sum(getattr(passed, way.value) for passed in self.proxy.connections[1:])


@pytest.fixture
def line(a_site: Callable[..., Site]) -> Iterator[Line]:
    site = a_site(devices=2)
    proxy = Proxy(site.fleet_port)
    client = site.client("a", port=proxy.port)
    for enrolled in (site.enrollment("a"), site.enroll("silent")):
        device = Device(enrolled, site.contract.spec)
        device.connect(site.fleet_port)
        device.report()
        device.session.close()
    site.coordinator.wait_for("Round opened")
    with site.store() as store:
        work, known = store.open_assignment("a"), store.device("a")
        assert work is not None
        assert known is not None
        bundle = store.bundle(known.bundle_key)
    assert bundle is not None
    files = work.manifest.size_bytes + sum(file.size_bytes for file in bundle.files)
    yield Line(site, client, proxy, work, files)
    client.kill()
    if isinstance(proxy.gate, CutOnce):
        proxy.gate.mended.set()
    proxy.close()


def leave_it_at_the_cut(_line: Line) -> None:
    """Both processes live on and find each other again."""


def kill_the_client(line: Line) -> None:
    line.client.kill()
    line.client.start()


def require_the_rest(passed: int, whole: int) -> None:
    """What came after the cut is what was missing, and that was not everything."""
    assert whole - PASSED_BYTES <= passed <= whole - FIRST_BYTES + ENVELOPE_BYTES


@pytest.mark.parametrize("strike", [leave_it_at_the_cut, kill_the_client])
def test_a_download_goes_on_at_its_offset(line: Line, strike: Callable[[Line], None]) -> None:
    weights = line.work.weights
    blobs = line.site.device_blobs("a")
    gate = line.cut_after(Way.DOWN, line.file_bytes + PASSED_BYTES, blobs)
    assert blobs.partial_size(OWNER, weights.sha256)
    strike(line)
    gate.mended.set()
    line.client.wait_for("update acknowledged")
    require_the_rest(line.later(Way.DOWN), weights.size_bytes)


def kill_the_coordinator(line: Line) -> None:
    line.site.coordinator.kill()
    line.site.start()


@pytest.mark.parametrize("strike", [leave_it_at_the_cut, kill_the_coordinator, kill_the_client])
def test_an_upload_goes_on_at_its_offset(line: Line, strike: Callable[[Line], None]) -> None:
    gate = line.cut_after(Way.UP, PASSED_BYTES, BlobStore(line.site.folder.blobs))
    strike(line)
    gate.mended.set()
    line.client.wait_for("update acknowledged")
    require_the_rest(line.later(Way.UP), line.update_bytes)
