"""The resident loop of a device: report, ask, work, push; one process from boot to stop."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from devices.profile import DeviceProfile
from edge_client.activity import Activity
from edge_client.attempt import MEMORY
from edge_client.client import Client
from edge_client.delivery import deliver_all
from edge_client.memory import give_back
from edge_client.stopping import StopFlag, Stopped
from edge_client.task import DEPLOY, Finished, Task, Wait
from reefleet import logs
from reefleet.errors import (
    NotEnrolled,
    OutOfMemory,
    ReefleetError,
    Rejected,
    TlsFailure,
    UnsupportedVersion,
)
from reefleet.retry import Retry

logger = logging.getLogger(__name__)

FATAL = (NotEnrolled, TlsFailure)  # working again mends neither
BACKOFF = Retry(base_s=0.5, ceiling_s=120.0)


class Agent:
    """Works for its coordinator until the run is over or a stop is asked for."""

    def __init__(
        self,
        client: Client,
        profile: DeviceProfile,
        stop: StopFlag,
        upkeep: Callable[[], None] = lambda: None,
        activity: Activity | None = None,
    ) -> None:
        """Take a client that is ready to call; `upkeep` is called before each question."""
        self._activity = activity or Activity()
        self._client = client
        self._profile = profile
        self._stop = stop
        self._upkeep = upkeep
        self._rng = random.Random()  # noqa: S311 - jitter, not a secret
        self._begun = False
        self._worked_at: float | None = None  # by the steady clock
        self._failures = 0
        self._backoff = self._delays()

    def run(self) -> bool:
        """Return when stopped or, with `until_finished`, when the run is over.

        True where the client should start anew, to give back what its work has brought into memory.

        With `until_finished`, raises the last error once too many pieces of work in a row failed;
        else a failure is logged and the loop goes on. NotEnrolled and TlsFailure always end it.
        """
        with logs.context(device_id=self._client.device_id):
            try:
                return self._loop()
            except Stopped:
                logger.info("stopped")
                return False

    def _begin(self) -> None:
        self._client.coordinator.report_profile(self._profile)
        logger.info("profile reported", extra={"board": self._profile.board})
        deliver_all(self._client)
        if verdict := self._client.attempts.verdict():
            self._abandon(*verdict)
        self._begun = True

    def _abandon(self, lease: str, cause: str) -> None:
        logger.warning("work given up", extra={"lease": lease, "cause": cause})
        # An older coordinator sees the deadline pass; a restored one knows no such lease.
        with suppress(UnsupportedVersion, Rejected):
            self._client.coordinator.abandon(lease, cause)
        self._client.attempts.end()

    def _turn(self) -> bool:
        """One question and what follows from it; True where the run is over."""
        self._stop.check()
        self._upkeep()
        if not self._begun:
            self._begin()
        answer = self._client.coordinator.next_task()
        if isinstance(answer, Task):
            with logs.context(round_number=answer.round), self._activity.at(answer.kind):
                self._work(answer)
            return False
        if isinstance(answer, Wait):
            self._stop.idle(answer.seconds)
            return False
        return self._over(answer)

    def _work(self, task: Task) -> None:
        logger.info("task taken", extra={"kind": task.kind, "of": task.rounds_total})
        from edge_client import work  # an idle client has no need of numpy and the runtime

        if task.kind == DEPLOY:
            work.do(self._client, task)
            self._worked_at = time.monotonic()
            return
        self._client.attempts.begin(task.lease)
        try:
            work.do(self._client, task)
        except (MemoryError, OutOfMemory):
            self._abandon(task.lease, MEMORY)
            raise
        finally:
            self._client.attempts.end()
            self._worked_at = time.monotonic()
            give_back()

    def _over(self, _finished: Finished) -> bool:
        if self._client.config.until_finished:
            logger.info("run finished")
            return True
        self._stop.idle(self._client.config.idle_s)
        return False

    def _is_rested(self) -> bool:
        """Whether work is so long ago that the next may start from nothing."""
        if self._worked_at is None:
            return False
        return time.monotonic() - self._worked_at >= self._client.config.anew_after_s

    def _loop(self) -> bool:
        """Turn after turn until the run is over or work is long ago, through failures."""
        while True:
            try:
                if self._turn():
                    return False
                if self._is_rested():
                    return True
            except (Stopped, *FATAL):  # noqa: PERF203
                raise
            except Exception as error:  # noqa: BLE001 - the outermost loop must outlive its work
                self._failed(error)
            else:
                self._failures, self._backoff = 0, self._delays()

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._begun = False  # the coordinator may have been set up anew and know no profile
        known = isinstance(error, ReefleetError)
        facts = {"reason": str(error), "kind": type(error).__name__, "failures": self._failures}
        logger.error("work failed", extra=facts, exc_info=None if known else error)
        if self._client.config.until_finished and self._failures >= self._client.config.failures:
            raise error
        self._stop.wait(next(self._backoff))

    def _delays(self) -> Iterator[float]:
        return BACKOFF.delays(self._rng)
