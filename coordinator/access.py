"""The access rules of the fleet's mosquitto, kept as the store has them: a revocation reaches it.

The coordinator may be another user than mosquitto, so it changes the one file and nothing else.
Mosquitto reads it at SIGHUP: from here where a pid file is named, else from whoever watches.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

from coordinator.broker import Paths, rules
from coordinator.config import Mqtt
from coordinator.store import Store
from reefleet.blobs import write_atomic
from reefleet.errors import ReefleetError

logger = logging.getLogger(__name__)

RULES_MODE = 0o640  # for a group that mosquitto is in


class Access:
    """The rules in `[mqtt] files`, or in `mqtt` in the coordinator's folder where that is there."""

    def __init__(self, store: Store, wanted: Mqtt, root: Path) -> None:
        self._store = store
        self._paths = Paths(Path(wanted.files) if wanted.files else root / "mqtt")
        self._pid_file = Path(wanted.pid_file) if wanted.pid_file else None
        self._is_used = bool(wanted.files) or (wanted.port > 0 and self._paths.rules.is_file())
        self._is_due = True  # something may have changed while nobody looked
        self._is_read = False  # by mosquitto
        self._failed = ""

    def members_changed(self) -> None:
        """A device was revoked or let in; safe in any thread."""
        self._is_due = True

    def renew_if_due(self) -> None:
        """Write the rules where they changed; what cannot be written is tried again."""
        if not (self._is_used and self._is_due):
            return
        self._is_due = False
        try:
            self._renew()
            self._failed = ""
        except (OSError, ValueError, ReefleetError) as error:
            self._is_due = True
            self._complain(str(error))

    def _renew(self) -> None:
        file, wanted = self._paths.rules, rules(self._store.revoked()).encode()
        if not file.is_file() or file.read_bytes() != wanted:
            self._is_read = False
            write_atomic(file, wanted)
            file.chmod(RULES_MODE)
            logger.info("Access rules written", extra={"file": str(file)})
        if self._pid_file and not self._is_read:
            with suppress(FileNotFoundError, ProcessLookupError):  # it reads them when it starts
                os.kill(int(self._pid_file.read_text(encoding="ascii")), signal.SIGHUP)
        self._is_read = True

    def _complain(self, reason: str) -> None:
        if reason != self._failed:  # not at every look
            logger.error("Access rules not written", extra={"reason": reason})
        self._failed = reason
