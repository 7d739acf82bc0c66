"""The boards Reefleet knows: facts with their sources, and those that the user added.

Bundled boards are one TOML file each in `boards/`; a user's own lie in a folder of theirs.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path

from devices.board import FIGURES, Board, Figure, Memory, read_board
from devices.profile import DeviceProfile
from reefleet.errors import ConfigError, DamagedFile, MissingFile, UnknownBoard

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FIGURES", "Board", "Figure", "Memory"]

FOLDER_VARIABLE = "REEFLEET_BOARDS"
NOT_BOARDS = frozenset({"sources.toml", "systems.toml"})


@lru_cache(maxsize=1)
def boards() -> Mapping[str, Board]:
    """Every board of the catalog by id, in order; raises ConfigError naming a file's mistake."""
    found = dict(_bundled())
    for path in sorted(user_folder().glob("*.toml")):
        board = read_board(str(path), path.read_text(encoding="utf-8"))
        _require_new(board, found, str(path))
        found[board.id] = board
    return dict(sorted(found.items()))


def user_folder() -> Path:
    """Where the user's own boards lie: $REEFLEET_BOARDS, or their configuration folder."""
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "reefleet" / "boards"


def add(file: Path) -> Board:
    """Take a user's board into the catalog, or a new form of one they added before.

    Raises MissingFile, DamagedFile, or ConfigError naming key and value, and then adds nothing.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"cannot read the board file {file}: {error.strerror}"
        raise MissingFile(msg) from error
    except UnicodeDecodeError as error:
        msg = f"the board file {file} is not text: {error}"
        raise DamagedFile(msg) from error
    board = read_board(str(file), text)
    others = {known.id: known for known in boards().values() if known.id != board.id}
    _require_new(board, {**others, **_bundled()}, str(file))
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{board.id}.toml"
    building = target.with_suffix(".tmp")
    building.write_text(text, encoding="utf-8")
    building.replace(target)
    forget()
    return board


def forget() -> None:
    """Read the user's boards anew at the next question."""
    for kept in (boards, _names, _least_available_share):
        kept.cache_clear()


@lru_cache(maxsize=1)
def sources() -> Mapping[str, str]:
    """What each source key stands for."""
    text = (resources.files("devices") / "boards" / "sources.toml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in tomllib.loads(text).items()}


def find(name: str) -> Board:
    """The board with this id or alias; raises UnknownBoard with near names."""
    known = _names()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`reefleet devices list` shows all"
    msg = f"board {name!r} is not in the catalog; {hint}"
    raise UnknownBoard(msg)


def available_mib(board: Board, nominal_mib: int = 0) -> int:
    """MiB free on the idle board; where unknown, the least share seen on any board."""
    memory = board.variant(nominal_mib)
    if memory.available_mib is not None:
        return memory.available_mib
    return int(memory.nominal_mib * _least_available_share())


def reference_profile(
    name: str,
    *,
    nominal_mib: int = 0,
    train_samples: int | None = None,
    runtimes: Mapping[str, str] | None = None,
) -> DeviceProfile:
    """What the board `name` would report of itself when idle; raises UnknownBoard."""
    board = find(name)
    cores = board.value("cores")
    return DeviceProfile(
        board=name,
        memory_available_mib=available_mib(board, nominal_mib),
        cores=None if cores is None else int(cores),
        runtimes=dict(runtimes or {}),
        isa=board.isa,
        train_samples=train_samples,
    )


@lru_cache(maxsize=1)
def _bundled() -> Mapping[str, Board]:
    files = (resources.files("devices") / "boards").iterdir()
    read = [
        read_board(f"devices/boards/{entry.name}", entry.read_text(encoding="utf-8"))
        for entry in files
        if entry.name.endswith(".toml") and entry.name not in NOT_BOARDS
    ]
    return {board.id: board for board in read}


def _require_new(board: Board, known: Mapping[str, Board], where: str) -> None:
    taken = {name: each for each in known.values() for name in (each.id, *each.aliases)}
    for name in (board.id, *board.aliases):
        if name in taken:
            msg = f"{where}: the catalog has {name!r} already, for {taken[name].name}"
            raise ConfigError(msg)


@lru_cache(maxsize=1)
def _names() -> Mapping[str, Board]:
    return {name: board for board in boards().values() for name in (board.id, *board.aliases)}


@lru_cache(maxsize=1)
def _least_available_share() -> float:
    return min(
        memory.available_mib / memory.nominal_mib
        for board in boards().values()
        for memory in board.memory
        if memory.available_mib is not None
    )
