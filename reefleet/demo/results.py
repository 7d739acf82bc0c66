"""What the demo measured on each device, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """One device at the end: its plan and its own figures on its test images."""

    device: str
    exit_depth: int
    bits: int
    shared_by_exit: tuple[float, ...]  # shallow to deep
    personal_accuracy: float
    early_accuracy: float
    full_depth_accuracy: float
    packed_bytes: int
    full_model_bytes: int
    mean_exit_depth: float
    early_p50_ms: float
    full_depth_p50_ms: float
    bytes_down: int
    bytes_up: int
    peak_resident_bytes: int

    @property
    def shared_accuracy(self) -> float:
        """Accuracy of the shared sub-model at its deepest exit."""
        return self.shared_by_exit[-1]


_HEADINGS = (
    ("device", ""),
    ("exit", "depth"),
    ("bits", ""),
    ("accuracy", "shared"),
    ("accuracy", "personal"),
    ("accuracy", "early exit"),
    ("packed", "bytes"),
    ("of float32", ""),  # the size of the full model goes below
    ("mean", "exit"),
    ("p50 ms", "early exit"),
    ("p50 ms", "full depth"),
    ("bytes", "down"),
    ("bytes", "up"),
    ("peak", "memory"),
)
_FULL_MODEL = 7  # column


def by_exit(results: Sequence[Result]) -> tuple[float, ...]:
    """Mean accuracy of the shared model at each exit, over the boards that hold all of them."""
    depth = max(result.exit_depth for result in results)
    deepest = [result.shared_by_exit for result in results if result.exit_depth == depth]
    return tuple(sum(column) / len(column) for column in zip(*deepest, strict=True))


def table(results: Sequence[Result]) -> str:
    """Give the aligned table, one line a device, under two lines of headings."""
    rows = [_cells(result) for result in results]
    above, below = (list(line) for line in zip(*_HEADINGS, strict=True))
    below[_FULL_MODEL] = size(max((r.full_model_bytes for r in results), default=0))
    lines = [above, below, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    text = [_aligned(line, widths) for line in lines]
    text.insert(2, "-" * len(text[0]))
    return "\n".join(line.rstrip() for line in text)


def size(count: float) -> str:
    """Give a byte count in the unit that keeps it short."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _cells(result: Result) -> list[str]:
    return [
        result.device,
        str(result.exit_depth),
        str(result.bits),
        f"{result.shared_accuracy:.1%}",
        f"{result.personal_accuracy:.1%}",
        f"{result.early_accuracy:.1%}",
        size(result.packed_bytes),
        f"{result.packed_bytes / result.full_model_bytes:.1%}",
        f"{result.mean_exit_depth:.2f}",
        f"{result.early_p50_ms:.3f}",
        f"{result.full_depth_p50_ms:.3f}",
        size(result.bytes_down),
        size(result.bytes_up),
        size(result.peak_resident_bytes),
    ]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([first, *rest])
