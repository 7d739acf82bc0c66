"""Getting finished work acknowledged: push, commit, adopt what waited for the answer."""

from __future__ import annotations

import logging
from dataclasses import replace

from edge_client.client import Client
from edge_client.memory import peak_resident_bytes
from edge_client.outbox import Entry
from edge_client.transfer import Reader, upload
from reefleet.errors import DamagedFile, Rejected, WireError

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # an upload that arrives altered or with a gap is opened again; thrice is no accident


def deliver_all(client: Client) -> None:
    """Push everything in the outbox; after a crash this comes before any new work."""
    for entry in client.outbox.pending():
        deliver(client, entry)


def deliver(client: Client, entry: Entry) -> bool:
    """Push one entry until it is acknowledged (True) or refused (False); both empty the outbox.

    The residual of a refused update is not adopted: what it coded never arrived.
    """
    client.personal.adopt(entry.state_file)
    try:
        repeated = _pushed(client, entry)
    except (Rejected, WireError, DamagedFile) as error:
        facts = {"round": entry.round, "lease": entry.lease, "reason": str(error)}
        logger.warning("update dropped", extra=facts)
        client.outbox.drop(entry)
        return False
    client.personal.adopt_residual(entry.residual_file)
    client.outbox.drop(entry)
    facts = {"round": entry.round, "bytes": entry.update.size_bytes, "repeated": repeated}
    logger.info("update acknowledged", extra=facts)
    return True


def _pushed(client: Client, entry: Entry) -> bool:
    with entry.opened() as read:
        return _sent(client, entry, read)


def _sent(client: Client, entry: Entry, read: Reader) -> bool:
    for attempt in range(1, ATTEMPTS + 1):
        before = client.coordinator.bytes_up
        try:
            upload(client.coordinator, entry.lease, entry.update, read, client.check)
            sent = client.coordinator.bytes_up - before
            metrics = replace(
                entry.metrics, bytes_up=sent, peak_resident_bytes=peak_resident_bytes() or 0
            )
            return client.coordinator.commit_update(
                entry.lease, entry.update, entry.samples, metrics
            )
        except WireError as error:
            if attempt == ATTEMPTS:
                raise
            logger.warning("update did not arrive whole", extra={"reason": str(error)})
    raise AssertionError  # the last attempt returns or raises
