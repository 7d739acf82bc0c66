"""Uploads of updates: announced, received in chunks, checked whole, then acknowledged as durable.

Whatever is refused changes nothing but the list of refusals. Where the content itself is bad,
sending it again cannot help, so that device's work in the round ends.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coordinator import records as r
from coordinator.clock import Clock
from coordinator.config import RoundPolicy, UpdatePolicy
from coordinator.faults import point
from coordinator.store import Store
from coordinator.versions import Versions
from reefleet.errors import (
    ChecksumMismatch,
    PayloadTooLarge,
    ReefleetError,
    Rejected,
    TruncatedPayload,
    WireError,
)
from reefleet.model import parameter_count
from reefleet.rpc.limits import CHUNK_BYTES, max_update_bytes
from reefleet.wire.chunks import Bytes
from reefleet.wire.codecs import length_of
from reefleet.wire.packed import PackedFile

logger = logging.getLogger(__name__)

TRUSTED_S = 2.0  # an upload under way asks the store so often, not with each chunk
_MOST_UNDER_WAY = 4096
_STRIPES = 64  # calls about one lease take turns; different leases seldom meet


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """An upload as the store had it at `asked_at`: of work that was open, and not accepted yet."""

    device_id: str
    announced: r.Artifact
    asked_at: float


class Updates:
    """The way of an update from a device into the store; safe to call from many threads."""

    def __init__(
        self,
        store: Store,
        versions: Versions,
        policy: UpdatePolicy,
        clock: Clock,
        rounds: RoundPolicy,
    ) -> None:
        self._store = store
        self._blobs = versions.blobs
        self._versions = versions
        self._policy = policy
        self._rounds = rounds
        self._clock = clock
        self._checking = threading.Lock()  # one decoded update in memory, whatever the cohort
        self._uploads: dict[str, _UnderWay] = {}  # by lease, with their turn
        self._turns = [threading.Lock() for _ in range(_STRIPES)]

    def open(self, device_id: str, lease: str, announced: r.Artifact) -> int:
        """Announce or resume an upload; the offset to go on from.

        Raises Rejected where the work is over, PayloadTooLarge, WireError for a bad digest.
        """
        self._blobs.path(announced.sha256)  # refuses text that is no digest
        with self._turn(lease):
            earlier, work = self._standing(device_id, lease)
            if self._is_repeated(earlier, work, announced.sha256):
                return announced.size_bytes
            limit = max_update_bytes(parameter_count(self._versions.spec, work.plan.exit_depth))
            if announced.size_bytes > limit:
                msg = f"an update of {announced.size_bytes} bytes is over the limit of {limit}"
                self._note(work, announced.sha256, PayloadTooLarge(msg), ends_work=False)
                raise PayloadTooLarge(msg)
            if earlier.announced and earlier.announced.sha256 != announced.sha256:
                self._blobs.drop_partials(lease)  # one upload at a time, or disks fill up
            self._store.set_upload(lease, announced)
            point("upload.announced")
            self._note_under_way(work, announced)
            if self._blobs.has(announced.sha256):
                return announced.size_bytes
            return self._blobs.partial_size(lease, announced.sha256)

    def put(self, device_id: str, lease: str, sha256: str, offset: int, data: Bytes) -> int:
        """Take a chunk; the offset of the next one. Raises as `open`, and WireError for a gap."""
        if len(data) > CHUNK_BYTES:
            msg = f"a chunk of {len(data)} bytes is over the limit of {CHUNK_BYTES}"
            raise PayloadTooLarge(msg)
        with self._turn(lease):
            known = self._under_way(device_id, lease, sha256)
            if known is None:
                found, work = self._standing(device_id, lease)
                if self._is_repeated(found, work, sha256):
                    return offset + len(data)
                known = self._note_under_way(work, _announced(found, sha256))
            held = self._blobs.append(lease, sha256, offset, data, known.announced.size_bytes)
            point("upload.chunk-appended")
            return held

    def commit(
        self,
        device_id: str,
        lease: str,
        announced: r.Artifact,
        samples: int,
        metrics: Mapping[str, Any],
    ) -> bool:
        """Check the whole update and make it durable; True where it was durable before.

        Raises Rejected (work over, another update came first, norm or samples out of bounds),
        TruncatedPayload, ChecksumMismatch, TensorMismatch, NonFiniteValues, another WireError.
        """
        with self._turn(lease):
            found, work = self._standing(device_id, lease)
            if self._is_repeated(found, work, announced.sha256):
                return True
            self._uploads.pop(lease, None)
            self._receive(work, _announced(found, announced.sha256), announced)
            try:
                with self._checking:
                    rms = self._check(work, announced.sha256, samples)
            except (WireError, Rejected) as error:
                self._note(work, announced.sha256, error, ends_work=True)
                raise
            accepted = r.Update(
                round=work.round,
                device_id=device_id,
                artifact=announced,
                samples=samples,
                depth=work.plan.exit_depth,
                metrics=metrics,
                accepted_at=self._clock.wall(),
                lease=lease,
                base_version=work.base_version,
                rms=rms,
            )
            self._keep(accepted)
        logger.info("Update accepted", extra={"bytes": announced.size_bytes, "samples": samples})
        return False

    def _under_way(self, device_id: str, lease: str, sha256: str) -> _UnderWay | None:
        """An upload that the store was asked about a moment ago; else None."""
        known = self._uploads.get(lease)
        if known and (known.device_id, known.announced.sha256) == (device_id, sha256):
            if self._clock.monotonic() - known.asked_at < TRUSTED_S:
                return known
            self._uploads.pop(lease, None)
        return None

    def _note_under_way(self, work: r.Assignment, announced: r.Artifact) -> _UnderWay:
        if len(self._uploads) >= _MOST_UNDER_WAY:
            self._uploads.clear()  # the store knows them all
        known = _UnderWay(work.device_id, announced, self._clock.monotonic())
        self._uploads[work.lease] = known
        return known

    def _standing(self, device_id: str, lease: str) -> tuple[r.Upload, r.Assignment]:
        found = self._store.upload_of(lease)
        work = found.work
        if work is None or work.device_id != device_id or work.kind != r.FEDERATE:
            msg = f"lease {lease[:64]!r} is not federated work of this device"
            raise Rejected(msg)
        return found, work

    def _is_repeated(self, found: r.Upload, work: r.Assignment, sha256: str) -> bool:
        """Whether this very update is durable already; raises Rejected where work is over."""
        if found.accepted_sha256:
            if found.accepted_sha256 == sha256:
                return True
            msg = f"round {work.round} already holds another update of this device"
            raise Rejected(msg)
        if msg := self._over(work):
            if work.state != r.REFUSED:
                self._note(work, sha256, Rejected(msg), ends_work=work.state == r.OPEN)
            raise Rejected(msg)
        return False

    def _over(self, work: r.Assignment) -> str:
        """Why no update of this work counts any more; '' where one does."""
        rules = self._rounds
        msg = f"the work of round {work.round} is over for this device: {work.reason}"
        if work.state == r.OPEN and rules.mode == "sync":
            return ""
        if not rules.takes_late or work.state not in {r.OPEN, r.EXPIRED}:
            return msg
        if self._store.rounds_closed() >= rules.total:
            return f"the run is over; {msg}" if work.state == r.EXPIRED else "the run is over"
        behind = self._newest() - work.base_version
        if behind > rules.max_staleness:
            return (
                f"the work of round {work.round} started {behind} versions ago; "
                f"an update counts up to {rules.max_staleness}"
            )
        return ""

    def _keep(self, accepted: r.Update) -> None:
        """Have the update folded by its own round, or wait for the next where that is allowed."""
        point("update.before-commit")
        if self._rounds.mode == "sync":
            try:
                self._store.accept(accepted.lease, replace(accepted, folded_in=accepted.round))
            except Rejected:
                if not self._rounds.takes_late:
                    raise
            else:
                point("update.committed")
                return
        self._store.accept(accepted.lease, accepted, is_late=True)
        point("update.late.committed")

    def _newest(self) -> int:
        newest = self._store.latest_version()
        return newest.number if newest else 0

    def _receive(self, work: r.Assignment, expected: r.Artifact, announced: r.Artifact) -> None:
        """Make the bytes a blob."""
        if expected != announced:
            msg = f"the upload was announced with {expected.size_bytes} bytes"
            raise Rejected(msg)
        if self._blobs.renew(announced.sha256):
            return  # a crash came between the blob and its transaction
        held = self._blobs.partial_size(work.lease, announced.sha256)
        if held < announced.size_bytes:
            msg = f"only {held} of the {announced.size_bytes} bytes of the update have arrived"
            raise TruncatedPayload(msg)
        point("upload.before-finish")
        try:
            self._blobs.finish(work.lease, announced.sha256)
        except ChecksumMismatch as error:
            self._note(work, announced.sha256, error, ends_work=False)
            raise
        point("upload.finished")

    def _check(self, work: r.Assignment, sha256: str, samples: int) -> float:
        """Refuse what may not be folded; the root mean square of what may."""
        if not 1 <= samples <= self._policy.max_samples:
            msg = f"{samples} samples is not within 1 and {self._policy.max_samples}"
            raise Rejected(msg)
        depth = work.plan.exit_depth
        expected = self._versions.sent(depth)
        update = PackedFile(self._blobs.checked(sha256), "the update", expected)
        found = length_of(update, work.plan.codec)
        # The newest weights are what it will move; those it started from may be gone.
        limit = self._policy.max_norm_ratio * self._versions.cut(self._newest(), depth).norm
        if not found <= limit:
            msg = f"the update's norm {found:.4g} is over the bound of {limit:.4g}"
            raise Rejected(msg)
        return found / math.sqrt(max(1, sum(map(math.prod, expected.values()))))

    def _note(
        self, work: r.Assignment, sha256: str, error: ReefleetError, *, ends_work: bool
    ) -> None:
        reason = str(error)
        refusal = r.Refusal(work.round, work.device_id, sha256, reason, self._clock.wall())
        self._store.refuse(refusal, work.lease if ends_work else None)
        logger.warning("Update refused", extra={"reason": reason, "work_ended": ends_work})

    def _turn(self, lease: str) -> threading.Lock:
        return self._turns[hash(lease) % _STRIPES]


def _announced(found: r.Upload, sha256: str) -> r.Artifact:
    if found.announced and found.announced.sha256 == sha256:
        return found.announced
    msg = "this update was not announced; open the upload first"
    raise Rejected(msg)
