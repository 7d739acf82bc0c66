"""What stays on the device between rounds: personal state, and what coding lost of the uploads."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_client import tensorfile
from edge_client.folder import sync
from edge_client.outbox import RESIDUAL_FILE, STATE_FILE
from reefleet.errors import DamagedFile, TensorMismatch
from reefleet.model import Shape
from reefleet.wire import codebook
from reefleet.wire.manifest import Program, StateTensor

logger = logging.getLogger(__name__)

KEY = "bundle"
KEPT_ROLES = ("personal", "centers", "statistic")
PORTABLE_ROLES = ("personal", "centers")  # still meant under another plan; statistics are not
MOST_BITS = 8  # of a code

State = dict[str, NDArray[np.float32]]
Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class PersonalStore:
    """One file of state and one of residuals in `folder`, each replaced by a rename."""

    folder: Path

    def state(self, bundle: str) -> State:
        """The stored state; only what another plan can use where it was left by another bundle.

        A damaged file is as good as none: the state starts anew and a warning is logged.
        """
        arrays, facts = self._read(STATE_FILE)
        if facts.get(KEY) == bundle:
            return arrays
        return {n: value for n, value in arrays.items() if n.partition("/")[0] in PORTABLE_ROLES}

    def residual(self, shapes: Mapping[str, Shape]) -> State:
        """What coding lost of earlier updates, for the tensors of these names and shapes."""
        arrays, _ = self._read(RESIDUAL_FILE)
        return {n: value for n, value in arrays.items() if shapes.get(n) == value.shape}

    def adopt(self, file: Path) -> None:
        """Move a finished state file in; nothing to do where it was moved before."""
        self._move(file, STATE_FILE)

    def adopt_residual(self, file: Path) -> None:
        """Move the residual of an acknowledged update in; nothing to do where that was done."""
        self._move(file, RESIDUAL_FILE)

    def _move(self, file: Path, name: str) -> None:
        if not file.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file.replace(self.folder / name)
        sync(self.folder)

    def _read(self, name: str) -> tuple[State, dict[str, str]]:
        path = self.folder / name
        if not path.exists():
            return {}, {}
        try:
            return tensorfile.read(path)
        except DamagedFile as error:
            logger.warning("stored state dropped", extra={"file": name, "reason": str(error)})
            return {}, {}


def write_state(path: Path, program: Program, state: Arrays, bundle: str) -> None:
    """Write the part of a program's state that outlives the round to `path`."""
    kept = {item.name: state[item.name] for item in program.state if item.role in KEPT_ROLES}
    tensorfile.write(path, kept, {KEY: bundle})


def first_state(program: Program, weights: Arrays, stored: Arrays, initial: Arrays) -> State:
    """First values of a program's state, by the manifest's `init` of each tensor.

    `weights` are the downloaded shared tensors, `stored` what an earlier round left, `initial` the
    bundle's own file. Raises TensorMismatch naming a tensor that none of them holds.
    """
    state: State = {}
    for item in sorted(program.state, key=lambda item: item.init == "lloyd"):
        kept = stored.get(item.name) if item.role in KEPT_ROLES else None
        if kept is not None and kept.shape == item.shape and kept.dtype == np.float32:
            state[item.name] = kept
        elif item.init == "lloyd":
            state[item.name] = _fitted(item, state, weights)
        else:
            state[item.name] = _given(item, weights, initial)
    return state


def _given(item: StateTensor, weights: Arrays, initial: Arrays) -> NDArray[np.float32]:
    if item.init == "zeros":
        return np.zeros(item.shape, np.float32)
    found = weights.get(item.source) if item.init == "weights" else initial.get(item.name)
    if found is None or found.shape != item.shape:
        state = "missing" if found is None else f"of shape {found.shape}"
        msg = f"the first value of {item.name!r} ({item.init} {item.source}) is {state}"
        raise TensorMismatch(msg)
    return found


def _fitted(item: StateTensor, state: Arrays, weights: Arrays) -> NDArray[np.float32]:
    values = state.get(f"personal/{item.source}", weights.get(item.source))
    bits = math.prod(item.shape).bit_length() - 1
    if values is None or item.shape != (1 << bits,) or not 1 <= bits <= MOST_BITS:
        msg = f"centers {item.name!r} of shape {item.shape} cannot be fitted to {item.source!r}"
        raise TensorMismatch(msg)
    return codebook.lloyd(values, bits)
