"""A device's certificate, replaced by a new one in time; each gets a key of its own, made here."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from edge_client import enrollment
from edge_client.enrollment import Enrollment
from reefleet.errors import NotEnrolled, ReefleetError, TlsFailure
from reefleet.rpc import identity
from reefleet.rpc.identity import Identity

logger = logging.getLogger(__name__)

AT_SHARE = 2 / 3  # of the certificate's life
RETRY_SHARE = 0.02
LONGEST_RETRY_S = 3600.0


class Line(Protocol):
    """The connection that a certificate is renewed over."""

    def renew_certificate(self, request_der: bytes) -> bytes:
        """A new certificate (DER) for the key of the request."""

    def use(self, shown: Identity) -> None:
        """Show this certificate from the next call on."""


class Renewal:
    """Renews at two thirds of a certificate's life, counted by whichever clock has gone further.

    A board may start with a wrong date, and its steady clock may stop while it sleeps.
    """

    def __init__(
        self,
        state: Path,
        enrolled: Enrollment,
        line: Line,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._enrolled = enrolled
        self._line = line
        self._wall = wall
        self._monotonic = monotonic
        self._wait(enrolled.issued_at + self._span_s() - wall())

    def renew_if_due(self) -> None:
        """Renew where it is time; a failure is logged and tried again while the old one lasts.

        Raises NotEnrolled and TlsFailure, which trying again does not mend.
        """
        gone_s = max(self._wall() - self._since_wall, self._monotonic() - self._since)
        if gone_s < self._wait_s:
            return
        try:
            self._renew()
        except (NotEnrolled, TlsFailure):
            raise
        except ReefleetError as error:
            logger.warning("certificate not renewed", extra={"reason": str(error)})
            self._wait(min(LONGEST_RETRY_S, RETRY_SHARE * self._enrolled.life_s))

    def _renew(self) -> None:
        key = identity.new_key()
        certificate = self._line.renew_certificate(identity.certificate_request(key))
        # On disk before it is used: from its first use on, the old one is refused.
        self._enrolled = enrollment.renewed(self._state, self._enrolled, key, certificate)
        self._line.use(self._enrolled.identity)
        self._wait(self._span_s())
        logger.info("certificate renewed", extra={"good_for_s": round(self._enrolled.life_s)})

    def _span_s(self) -> float:
        return AT_SHARE * self._enrolled.life_s

    def _wait(self, seconds: float) -> None:
        self._wait_s = min(max(seconds, 0.0), self._span_s())
        self._since_wall, self._since = self._wall(), self._monotonic()
