"""What a trained set adds to a model, what of it training moves and a device sends.

`full` moves everything, `frozen` Ree and the exits alone. The others move those and tensors that
every block holds besides (`ModelSpec.adapter`): `lora` low-rank matrices (Hu et al. 2021), `ssf` a
gain and a shift after every layer (Lian et al. 2022), `adapters` a bottleneck after, and
`parallel-adapters` one beside, every part of a block (Houlsby et al. 2019, He et al. 2022). All
start as nothing, so that a model with them is the model without; ReeFL's released code starts SSF
and adapters at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reefleet.errors import ConfigError
from reefleet.geometry.backbone import geometry_of
from reefleet.geometry.spec import ADAPTERS, ModelSpec, Shape, Site

FULL, FROZEN = "full", "frozen"
LORA, SSF, SERIAL, PARALLEL = ADAPTERS

ENTRY_PREFIXES = ("patch_embed.", "cls_token", "pos_embed", "stem.")
# Tensors of a backbone, by the beginning of their names; what is left belongs to the exits.
BACKBONE_PREFIXES = ("blocks.", *ENTRY_PREFIXES)
_MARKS = (".lora", ".ssf.", ".adapter.", ".parallel.")


def adapter_shapes(spec: ModelSpec, depth: int, plain: Mapping[str, Shape]) -> dict[str, Shape]:
    """What `spec.adapter` adds to a sub-model whose other tensors are `plain`."""
    if not spec.adapter:
        return {}
    if spec.adapter == SSF:
        return _ssf_shapes(plain)
    shapes: dict[str, Shape] = {}
    rank = spec.adapter_rank
    for name, site in _sites(spec, depth).items():
        if spec.adapter == LORA:
            shapes |= {f"{name}.a": (rank, site.inputs), f"{name}.b": (site.outputs, rank)}
            continue
        prefix = f"{name}.{'adapter' if spec.adapter == SERIAL else 'parallel'}."
        shapes |= {
            prefix + "down.weight": (rank, site.inputs),
            prefix + "down.bias": (rank,),
            prefix + "up.weight": (site.outputs, rank),
            prefix + "up.bias": (site.outputs,),
        }
    return shapes


def adapter_macs(spec: ModelSpec, depth: int) -> int:
    """Multiply-accumulates that the adapters add to a forward pass; gains and shifts are free."""
    if spec.adapter in {"", SSF}:
        return 0
    sites = _sites(spec, depth).values()
    return sum(s.positions * spec.adapter_rank * (s.inputs + s.outputs) for s in sites)


def is_adapter(name: str) -> bool:
    """Whether a tensor was added for a trained set."""
    return name.startswith(BACKBONE_PREFIXES) and any(mark in name for mark in _MARKS)


def is_nothing(name: str) -> bool:
    """Whether a matrix that was added starts at zero, so that its layer starts as it was."""
    return is_adapter(name) and name.endswith((".b", "up.weight"))


def is_trained(name: str, trained: str) -> bool:
    """Whether training with this set moves the tensor."""
    if trained == FULL or not name.startswith(BACKBONE_PREFIXES):
        return True
    return trained != FROZEN and is_adapter(name)


def holding(spec: ModelSpec, trained: str) -> ModelSpec:
    """The model with the tensors that this set trains; raises ConfigError where it has others."""
    if trained not in ADAPTERS or spec.adapter == trained:
        return spec
    if spec.adapter:
        msg = f"the model holds {spec.adapter!r} already; it cannot hold {trained!r} too"
        raise ConfigError(msg)
    return replace(spec, adapter=trained)


def require_set(spec: ModelSpec, trained: str) -> None:
    """Raise ConfigError where the model does not hold what this set trains."""
    if trained in ADAPTERS and spec.adapter != trained:
        msg = f"the trained set is {trained!r}; the model holds {spec.adapter or 'no adapter'!r}"
        raise ConfigError(msg)


def _ssf_shapes(plain: Mapping[str, Shape]) -> dict[str, Shape]:
    return {
        f"{name.removesuffix('.bias')}.ssf.{part}": shape
        for name, shape in plain.items()
        if name.startswith(BACKBONE_PREFIXES) and name.endswith(".bias")
        for part in ("gain", "shift")
    }


def _sites(spec: ModelSpec, depth: int) -> dict[str, Site]:
    geometry = geometry_of(spec)
    sites: dict[str, Site] = {}
    for index in range(depth):
        if spec.adapter == LORA:
            sites |= geometry.lora_sites(spec, index)
        else:
            sites |= geometry.adapter_sites(spec, index, parallel=spec.adapter == PARALLEL)
    return sites
