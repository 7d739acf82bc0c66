"""The alarm for blocks that nobody in a round's cohort holds: they stay as they are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from coordinator.records import Device
from coordinator.sampling import unheld

logger = logging.getLogger(__name__)


class Coverage:
    """Looks at every cohort; says so when blocks lose their last holder, and when none lacks one.

    `blocks` are those of the last cohort, `rounds` counts cohorts that lacked some. Belongs to the
    thread that opens rounds; others may read.
    """

    def __init__(self) -> None:
        self.blocks: tuple[int, ...] = ()
        self.rounds = 0

    def look(self, cohort: Sequence[Device], depth: int) -> None:
        """Take in the cohort of a round that opens."""
        lacking = tuple(unheld(cohort, depth))
        self.rounds += bool(lacking)
        if lacking == self.blocks:
            return
        self.blocks = lacking
        facts = {"blocks": list(lacking), "devices": len(cohort)}
        if lacking:
            logger.warning("Blocks without a holder: nobody trains them", extra=facts)
        else:
            logger.info("Every block has a holder again", extra=facts)
