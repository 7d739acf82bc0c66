"""The coordinator as a service: signals, reloading, and word to systemd.

SIGTERM and SIGINT end it after calls in flight. SIGHUP reads the settings anew: what is wrong with
them is logged and the old ones stay; else listeners and rounds start again in this process, on the
same ports, and devices reconnect by themselves.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from coordinator.config import CoordinatorConfig, read_config, read_contract
from coordinator.folder import Folder
from coordinator.listeners import Ports
from coordinator.memory import share_one_arena
from coordinator.server import Coordinator
from coordinator.state import state_address
from reefleet import notify
from reefleet.errors import ReefleetError

logger = logging.getLogger(__name__)

BEATS = 3  # words of life in the time that systemd waits for one


class Daemon:
    """Serves one folder until told to stop; a reload makes a new coordinator."""

    def __init__(self, directory: Path, announce: Callable[[Ports], None]) -> None:
        self._directory = directory
        self._announce = announce
        self._config = _readable(directory)
        self._current = self._coordinator()
        self._reload = False
        self._stopping = False

    def run(self) -> None:
        """Serve until asked to stop; raises what ended the run."""
        limit_s = notify.watchdog_s()
        every_s = limit_s / BEATS if limit_s else None
        while not self._stopping:
            try:
                self._announce(self._current.start())
                notify.tell(notify.READY)
                self._current.wait(self._beat, every_s)
            finally:
                self._current.stop()
            if not self._reload:
                return
            self._reload = False
            self._current = self._coordinator()

    def stop(self, number: int, _frame: FrameType | None) -> None:
        """On SIGTERM and SIGINT."""
        logger.info("Stopping", extra={"signal": signal.Signals(number).name})
        notify.tell(notify.STOPPING)
        self._stopping = True
        self._current.request_stop()

    def reload(self, _number: int, _frame: FrameType | None) -> None:
        """On SIGHUP."""
        notify.reloading()
        try:
            self._config = _readable(self._directory)
        except ReefleetError as error:
            logger.error("Settings not reloaded", extra={"reason": str(error)})  # noqa: TRY400
            notify.tell(notify.READY)
            return
        logger.info("Reloading")
        self._reload = True
        self._current.request_stop()

    def _coordinator(self) -> Coordinator:
        return Coordinator(Folder(self._directory), self._config)

    def _beat(self) -> None:
        if self._current.is_well():
            notify.tell(notify.ALIVE)


def serve(directory: Path, announce: Callable[[Ports], None]) -> None:
    """Run the coordinator of `directory` until SIGTERM or SIGINT; `announce` is told the ports."""
    share_one_arena()
    daemon = Daemon(directory, announce)
    handlers = {
        signal.SIGTERM: daemon.stop,
        signal.SIGINT: daemon.stop,
        signal.SIGHUP: daemon.reload,
    }
    with _handled(handlers):
        daemon.run()


@contextmanager
def _handled(handlers: dict[signal.Signals, Callable[..., None]]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _readable(directory: Path) -> CoordinatorConfig:
    config = read_config(directory)
    read_contract(directory / config.model.contract)
    state_address(Folder(directory), config)
    return config
