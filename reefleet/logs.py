"""Logging: human lines on a terminal, JSON lines otherwise; `device` and `round` in every record.

Only the command line calls `configure`. Everything else asks `logging.getLogger(__name__)`, logs
short constant sentences and puts facts into `extra`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

LEVELS = ("debug", "info", "warning", "error")

device: ContextVar[str | None] = ContextVar("device", default=None)
round_: ContextVar[int | None] = ContextVar("round", default=None)

_PLAIN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(
    level: str = "info", *, as_json: bool | None = None, stream: TextIO | None = None
) -> None:
    """Send records of `level` and above to `stream` (stderr); JSON unless it is a terminal."""
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.addFilter(_add_context)
    as_json = not stream.isatty() if as_json is None else as_json
    handler.setFormatter(JsonLines() if as_json else HumanLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if level != "debug":  # gRPC's core writes lines of its own, past every handler
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for name in ("matplotlib", "PIL", "asyncio"):  # their debug records drown ours
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def context(*, device_id: str | None = None, round_number: int | None = None) -> Iterator[None]:
    """Add `device` and `round` to every record logged inside; None leaves a field as it was."""
    tokens: list[tuple[ContextVar[Any], Any]] = []
    if device_id is not None:
        tokens.append((device, device.set(device_id)))
    if round_number is not None:
        tokens.append((round_, round_.set(round_number)))
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, event, context, facts, error."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line without line breaks inside."""
        entry: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


class HumanLines(logging.Formatter):
    """`12:03:04 INFO    event key=value ...`, a traceback below where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line, and the traceback's lines where an error is attached."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = "".join(f" {key}={value}" for key, value in _facts(record).items())
        line = f"{clock} {record.levelname:<7} {record.getMessage()}{facts}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _add_context(record: logging.LogRecord) -> bool:
    for variable in (device, round_):
        value = variable.get()
        if value is not None and not hasattr(record, variable.name):
            setattr(record, variable.name, value)
    return True


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN_ATTRIBUTES}


def _utc(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
