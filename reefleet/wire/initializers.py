"""Packed tensors in the forms that stage graphs want: what fills a graph's external weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reefleet.errors import TensorMismatch, WireError
from reefleet.wire.codebook import Grid
from reefleet.wire.manifest import Initializer
from reefleet.wire.tensors import CodebookTensor, EncodedTensor

Array = NDArray[Any]


class Initializers:
    """The weights of one sub-model; each form of each tensor is made once, for all stages."""

    def __init__(self, tensors: Mapping[str, EncodedTensor]) -> None:
        """Take the unpacked tensors of a weights file."""
        self._tensors = tensors
        self._made: dict[tuple[str, str], Array] = {}

    def of(self, items: Iterable[Initializer]) -> dict[str, Array]:
        """Each initializer's array by name; raises TensorMismatch or WireError naming it."""
        return {item.name: self._one(item) for item in items}

    def _one(self, item: Initializer) -> Array:
        key = (item.source, item.form)
        if key not in self._made:
            tensor = self._tensors.get(item.source)
            if tensor is None:
                msg = f"the initializer {item.name!r} wants {item.source!r}, which is not packed"
                raise TensorMismatch(msg)
            self._made[key] = _in_form(item, tensor)
        return self._made[key]


def _in_form(item: Initializer, tensor: EncodedTensor) -> Array:
    if item.form == "float32":
        return np.ascontiguousarray(tensor.decode())
    if not isinstance(tensor, CodebookTensor) or not isinstance(tensor.codebook, Grid):
        msg = f"the initializer {item.name!r} wants {item.source!r} on the int8 grid; it is not"
        raise TensorMismatch(msg)
    if item.form == "int8-transposed":
        return np.ascontiguousarray(tensor.codebook.steps[tensor.codes].T)
    if item.form == "scale":
        return np.array(tensor.codebook.scale, np.float32)
    msg = f"the initializer {item.name!r} has the unknown form {item.form!r}"
    raise WireError(msg)
