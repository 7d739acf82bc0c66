"""The demo's live view: redrawn in place on a terminal, one line a change otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TextIO

BAR_CELLS = 24
UP_AND_CLEAR = "\x1b[{lines}A\x1b[J"


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """One device in the live view; None where there is no figure yet."""

    device: str
    activity: str
    exit_depth: int | None = None
    bits: int | None = None
    loss: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """What the live view shows; `done` in [0, 1] and `left_s` where they can be told."""

    phase: str
    done: float = 0.0
    left_s: float | None = None
    devices: tuple[DeviceLine, ...] = ()


@dataclass(slots=True)
class View:
    """Writes moments to `stream`; on a terminal each replaces the one before."""

    stream: TextIO
    started_s: float = field(default_factory=time.monotonic)
    in_place: bool = False
    drawn_lines: int = 0
    last_phase: str = ""

    def show(self, moment: Moment) -> None:
        """Show a moment; without a terminal only when its phase is another than before."""
        elapsed_s = time.monotonic() - self.started_s
        if self.in_place:
            lines = frame(moment, elapsed_s)
            self._clear()
            self.stream.write("\n".join(lines) + "\n")
            self.drawn_lines = len(lines)
        elif moment.phase != self.last_phase:
            self.stream.write(plain(moment, elapsed_s) + "\n")
        self.last_phase = moment.phase
        self.stream.flush()

    def say(self, line: str) -> None:
        """Write a line that stays, above what is redrawn."""
        self._clear()
        self.stream.write(line + "\n")
        self.stream.flush()

    def _clear(self) -> None:
        if self.drawn_lines:
            self.stream.write(UP_AND_CLEAR.format(lines=self.drawn_lines))
            self.drawn_lines = 0


def frame(moment: Moment, elapsed_s: float) -> list[str]:
    """Give the lines of one frame; none is wider than 79 columns."""
    filled = round(BAR_CELLS * min(1.0, max(0.0, moment.done)))
    bar = "#" * filled + "-" * (BAR_CELLS - filled)
    lines = [f"[{bar}] {moment.phase}, {_times(moment, elapsed_s)}"]
    if moment.devices:
        lines.append(f"  {'device':<18}{'depth':>6}{'bits':>6}{'loss':>9}{'accuracy':>10}  doing")
    lines += [_device(line) for line in moment.devices]
    return lines


def plain(moment: Moment, elapsed_s: float) -> str:
    """Give one line: what, when, how far, and each device's loss and accuracy where known."""
    figures = ", ".join(
        f"{line.device} {line.accuracy:.1%}" + ("" if line.loss is None else f" ({line.loss:.2f})")
        for line in moment.devices
        if line.accuracy is not None
    )
    figures = figures and f"accuracy (loss) {figures}"
    return f"{moment.phase}, {_times(moment, elapsed_s)}" + (f"; {figures}" if figures else "")


def remaining_s(
    durations_s: Sequence[float], rounds_left: int, personal_left: float = 1.0
) -> float | None:
    """Guess the time left from the finished rounds; None before the first has finished.

    The middle duration is taken, so that a slow first round does not spoil the guess. The personal
    work after the last round counts as one more; `personal_left` is the share of it that is not
    done.
    """
    if not durations_s:
        return None
    middle = sorted(durations_s)[len(durations_s) // 2]
    return middle * (rounds_left + personal_left)


def _times(moment: Moment, elapsed_s: float) -> str:
    left = "" if moment.left_s is None else f", about {_clock(moment.left_s)} left"
    return f"{_clock(elapsed_s)} gone{left}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _device(line: DeviceLine) -> str:
    cells = (
        f"{'' if line.exit_depth is None else line.exit_depth:>6}",
        f"{'' if line.bits is None else line.bits:>6}",
        f"{'' if line.loss is None else format(line.loss, '.3f'):>9}",
        f"{'' if line.accuracy is None else format(line.accuracy, '.1%'):>10}",
    )
    return f"  {line.device:<18.18}{''.join(cells)}  {line.activity:.24}"
