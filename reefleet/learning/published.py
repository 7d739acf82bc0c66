"""Published ViT and DeiT checkpoints as first weights: timm's tensor names and transformers'.

Their final norm and head are dropped, as ReeFL does; Ree and the exits start afresh. Where the
input differs, nothing is guessed that algebra gives: with R the linear map that resizes a patch of
ours to theirs, their patch embedding w reads our patch x as w R x, so ours is R^T w; and a grey
image is theirs with three equal channels, so ours is the sum over them. Position embeddings are
resized between the grids.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reefleet.errors import ConfigError, DamagedFile, MissingFile
from reefleet.model import VIT, ModelSpec, tensor_shapes
from reefleet.wire.checkpoint import initial

Weights = dict[str, NDArray[np.float32]]

_TIMM_ENTRY = {
    "patch_embed.weight": "patch_embed.proj.weight",
    "patch_embed.bias": "patch_embed.proj.bias",
    "cls_token": "cls_token",
    "pos_embed": "pos_embed",
}
_HF_ENTRY = {
    "patch_embed.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.bias": "embeddings.patch_embeddings.projection.bias",
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
}
_HF_LAYERS = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_HF_QKV = tuple(f"attention.attention.{part}" for part in ("query", "key", "value"))
_DROPPED = re.compile(
    r"(norm|fc_norm|head|layernorm|pooler\.dense|classifier)\.(weight|bias)|embeddings\.mask_token"
)
_DISTILLED = re.compile(
    r"(.*\.)?(dist_token|head_dist\..*|embeddings\.distillation_token|distillation_classifier\..*)"
)
_TIMM, _TRANSFORMERS = "timm", "transformers"


@dataclass(frozen=True, slots=True)
class Imported:
    """The full model, whose names the file used, and what became of each tensor."""

    weights: Weights
    naming: str
    loaded: tuple[str, ...]
    made: tuple[str, ...]
    dropped: tuple[str, ...]
    changed: tuple[str, ...]


def read(path: Path, spec: ModelSpec, seed: int) -> Imported:
    """First weights of `spec` from a published safetensors file; what it lacks is made from `seed`.

    Raises MissingFile, DamagedFile naming the tensor that is missing, unknown or of another shape,
    or ConfigError where `spec` is no ViT.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        msg = f"there is no checkpoint {path}"
        raise MissingFile(msg)
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        msg = f"{path} is not a safetensors file: {error}"
        raise DamagedFile(msg) from error
    return convert({name: value.float() for name, value in found.items()}, spec, seed, str(path))


def convert(found: Mapping[str, Tensor], spec: ModelSpec, seed: int, where: str) -> Imported:
    """The same from tensors in memory; `where` names them in errors."""
    if spec.kind != VIT:
        msg = f"{where} is a ViT; the contract is of a {spec.kind} model"
        raise ConfigError(msg)
    if distilled := sorted(name for name in found if _DISTILLED.fullmatch(name)):
        msg = (
            f"{where} is a distilled model ({distilled[0]}) with one token more; use the plain one"
        )
        raise DamagedFile(msg)
    source = _Source(found, spec, where)
    changed = source.fit_input()
    shapes = tensor_shapes(spec)
    for name, value in source.tensors.items():
        if tuple(value.shape) != shapes[name]:
            msg = f"{where}: {name} has shape {tuple(value.shape)}, the model needs {shapes[name]}"
            raise DamagedFile(msg)
        if not torch.isfinite(value).all():
            msg = f"{where}: {name} holds NaN or infinity"
            raise DamagedFile(msg)
    weights = initial(spec, seed)
    made = tuple(name for name in weights if name not in source.tensors)
    weights |= {name: value.contiguous().numpy() for name, value in source.tensors.items()}
    loaded = tuple(source.tensors)
    return Imported(weights, source.naming, loaded, made, source.dropped, changed)


class _Source:
    """The tensors of a published file under our names."""

    def __init__(self, found: Mapping[str, Tensor], spec: ModelSpec, where: str) -> None:
        self._found, self._spec, self._where = dict(found), spec, where
        self.naming, self._prefix = self._recognized()
        entry = _TIMM_ENTRY if self.naming == _TIMM else _HF_ENTRY
        self.tensors = {name: self._take(theirs) for name, theirs in entry.items()}
        self.tensors["cls_token"] = self.tensors["cls_token"].reshape(1, -1)
        block = self._timm_block if self.naming == _TIMM else self._hf_block
        for index in range(spec.depth):
            self.tensors |= block(index)
        self.dropped = self._rest()

    def fit_input(self) -> tuple[str, ...]:
        """Bring patch and position embeddings to the input of the model; says what was changed."""
        spec, changed = self._spec, []
        kernel = self.tensors["patch_embed.weight"]
        if kernel.ndim != 4 or self.tensors["pos_embed"].ndim != 3:
            msg = f"{self._where}: the patch embedding is no 2-D convolution"
            raise DamagedFile(msg)
        if kernel.shape[1] != spec.channels:
            changed.append(f"patch_embed from {kernel.shape[1]} channels to {spec.channels}")
            kernel = kernel.sum(1, keepdim=True) / spec.channels
            kernel = kernel.expand(-1, spec.channels, -1, -1)
        if tuple(kernel.shape[2:]) != spec.patch_shape:
            before = tuple(kernel.shape[2:])
            changed.append(
                f"patch_embed from {_extent(before)} pixels to {_extent(spec.patch_shape)}"
            )
            kernel = _read_through_resize(kernel, spec.patch_shape)
        self.tensors["patch_embed.weight"] = kernel.flatten(1)
        embedding = self.tensors["pos_embed"][0]
        rows = len(embedding) - 1
        side = math.isqrt(rows)
        if rows != spec.tokens - 1 or (side, side) != spec.grid:
            if side * side != rows:
                msg = f"{self._where}: {rows} position embeddings are no square grid"
                raise DamagedFile(msg)
            changed.append(f"pos_embed from {side} x {side} to {_extent(spec.grid)}")
            embedding = _resized_positions(embedding, side, spec.grid)
        self.tensors["pos_embed"] = embedding
        return tuple(changed)

    def _recognized(self) -> tuple[str, str]:
        for naming, entry in ((_TIMM, _TIMM_ENTRY), (_TRANSFORMERS, _HF_ENTRY)):
            end = entry["patch_embed.weight"]
            for name in self._found:
                if name == end or name.endswith("." + end):
                    return naming, name.removesuffix(end)
        msg = (
            f"{self._where} is no ViT with the tensor names of timm or transformers: it has "
            f"neither {_TIMM_ENTRY['patch_embed.weight']!r} nor {_HF_ENTRY['patch_embed.weight']!r}"
        )
        raise DamagedFile(msg)

    def _take(self, name: str) -> Tensor:
        found = self._found.pop(self._prefix + name, None)
        if found is None:
            msg = f"{self._where}: tensor {self._prefix + name!r} is missing"
            raise DamagedFile(msg)
        return found

    def _timm_block(self, index: int) -> dict[str, Tensor]:
        prefix = f"blocks.{index}."
        ends = [
            f"{layer}.{part}"
            for layer in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
            for part in ("weight", "bias")
        ]
        return {prefix + end: self._take(prefix + end) for end in ends}

    def _hf_block(self, index: int) -> dict[str, Tensor]:
        ours, theirs = f"blocks.{index}.", f"encoder.layer.{index}."
        taken = {}
        for part in ("weight", "bias"):
            joined = [self._take(f"{theirs}{layer}.{part}") for layer in _HF_QKV]
            taken[f"{ours}attn.qkv.{part}"] = torch.cat(joined)
            for layer, name in _HF_LAYERS.items():
                taken[f"{ours}{layer}.{part}"] = self._take(f"{theirs}{name}.{part}")
        return taken

    def _rest(self) -> tuple[str, ...]:
        block = "blocks" if self.naming == _TIMM else r"encoder\.layer"
        deeper: Callable[[str], re.Match[str] | None] = re.compile(rf"{block}\.(\d+)\..*").fullmatch
        for name in sorted(self._found):
            plain = name.removeprefix(self._prefix)
            below = deeper(plain)
            if not _DROPPED.fullmatch(plain) and not (below and int(below[1]) >= self._spec.depth):
                msg = f"{self._where}: tensor {name!r} is unknown; it is no plain ViT or DeiT"
                raise DamagedFile(msg)
        return tuple(sorted(self._found))


def _read_through_resize(kernel: Tensor, patch: tuple[int, int]) -> Tensor:
    """R^T w for kernels [D, C, h, w] and R from our patch to theirs, bilinear."""
    high, wide = kernel.shape[2:]
    basis = torch.eye(patch[0] * patch[1]).reshape(-1, 1, *patch)
    grown = _resize(basis, (high, wide), "bilinear")  # [ours, 1, h, w]
    matrix = grown.reshape(-1, high * wide)
    return (kernel.flatten(2) @ matrix.T).reshape(*kernel.shape[:2], *patch)


def _resized_positions(embedding: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """The class token's row as it is, the grid's rows [side * side, D] resized to `grid`."""
    width = embedding.shape[1]
    plane = embedding[1:].T.reshape(1, width, side, side)
    return torch.cat([embedding[:1], _resize(plane, grid, "bicubic").reshape(width, -1).T])


def _resize(plane: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    return F.interpolate(plane, size, mode=mode, align_corners=False, antialias=True)


def _extent(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"
