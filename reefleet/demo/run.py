"""One demo from an empty folder to table and picture."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TextIO

from reefleet.demo import chart, fleet, story
from reefleet.demo.packs import write_packs, write_sample_images
from reefleet.demo.processes import family
from reefleet.demo.progress import Moment, View
from reefleet.demo.results import Result, by_exit, table
from reefleet.demo.scenario import BOARDS, CONTRACT
from reefleet.errors import RuntimeUnavailable

RUN_FOLDER = ".run"
WHEELS = ("torch", "onnx", "onnxruntime", "sklearn", "matplotlib", "PIL")

# Six busy processes share the machine; a thread pool in each would only fight the others.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Demo:
    """What the user chose."""

    out: Path = Path("out")
    rounds: int = 8
    seed: int = 0
    keep: bool = False
    emulate: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """What a demo measured: each device's figures, seconds in all and of the fleet alone."""

    results: tuple[Result, ...]
    seconds: float
    fleet_seconds: float


def play(demo: Demo, progress: TextIO) -> Played:
    """Run the demo; `progress` sees the live view.

    Raises RuntimeUnavailable where a wheel is missing, ChildFailed where a process fails.
    """
    begin = time.monotonic()
    _require_wheels()
    folder = _fresh(demo.out)
    view = View(progress, in_place=progress.isatty())
    with _sigterm_interrupts(), family(folder / "logs", ENVIRONMENT) as members:
        view.show(Moment("preparing data and identities"))
        packs = write_packs(folder / "data", BOARDS, demo.seed)
        command = fleet.emulated if demo.emulate else fleet.plain
        running = fleet.start(members, folder, packs, demo.rounds, demo.seed, command)
        started = time.monotonic()
        status = fleet.watch(members, running, view)
        finished = time.monotonic()
    view.show(Moment("finished", done=1.0))
    view.say("")
    results = tuple(story.results(status, CONTRACT.spec))
    for device in BOARDS:
        shutil.copytree(fleet.state_of(folder, device) / "submodel", demo.out / device)
    write_sample_images(demo.out / "digits", packs)
    chart.draw(demo.out / "accuracy.png", story.accuracy_by_round(status), results)
    if not demo.keep:
        shutil.rmtree(folder)
    return Played(results, time.monotonic() - begin, finished - started)


def report(demo: Demo, played: Played) -> str:
    """The table, the means, and where the files lie."""
    results = played.results
    shared = sum(result.shared_accuracy for result in results) / len(results)
    personal = sum(result.personal_accuracy for result in results) / len(results)
    exits = zip(CONTRACT.spec.exits, by_exit(results), strict=False)
    kept = f", states and logs in {demo.out / RUN_FOLDER}" if demo.keep else ""
    spent = f"{played.fleet_seconds:.0f} s; {played.seconds:.0f} s in all"
    return "\n".join(
        [
            table(results),
            "",
            f"Mean accuracy at the deepest exit: shared {shared:.1%}, personal {personal:.1%}.",
            "Shared model by exit, on the boards of full depth: "
            + ", ".join(f"{depth}: {accuracy:.1%}" for depth, accuracy in exits)
            + ".",
            f"Rounds: {demo.rounds}, {spent}.",
            f"Files: a bundle a device, digits and accuracy.png in {demo.out}{kept}.",
            f"Try: reefleet edge infer {demo.out / BOARDS[0]} {demo.out / 'digits' / '7.png'}",
        ]
    )


def _require_wheels() -> None:
    """Refuse at once what would otherwise fail after minutes of work."""
    for name in WHEELS:
        if find_spec(name) is None:
            msg = f"the demo needs {name}, which is not here; run: pip install 'reefleet[all]'"
            raise RuntimeUnavailable(msg)


def _fresh(out: Path) -> Path:
    """Clear what an earlier demo left in `out`, and nothing else."""
    for name in (RUN_FOLDER, "digits", *BOARDS):
        if (out / name).exists():
            shutil.rmtree(out / name)
    (out / "accuracy.png").unlink(missing_ok=True)
    folder = out / RUN_FOLDER
    folder.mkdir(parents=True, mode=0o700)
    return folder


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that the children are ended on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
