"""What a build starts from: a checkpoint, a fleet's version, a personal sub-model, a simulation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from export.merging import merge
from reefleet.blobs import sha256_hex
from reefleet.errors import ConfigError, DamagedFile, InputError, MissingFile, WireError
from reefleet.model import ModelContract, ModelSpec, parameter_count, tensor_shapes
from reefleet.simulation import checkpoint as simulated
from reefleet.simulation import deployable
from reefleet.wire import checkpoint
from reefleet.wire.layout import MAGIC
from reefleet.wire.manifest_json import submodel_from_bytes
from reefleet.wire.tensors import EncodedTensor, Float32Tensor, unpack_tensors

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Source:
    """Tensors of a model of `depth` blocks; `bits` is 0 unless a device has quantized it.

    `samples` is where a simulation keeps its validation samples.
    """

    contract: ModelContract
    depth: int
    bits: int
    tensors: Mapping[str, EncodedTensor]
    provenance: Mapping[str, str]
    layer_bits: tuple[int, ...] = ()
    samples: Path | None = None


def load(path: Path, contract: ModelContract | None) -> Source:
    """Read safetensors, a packed tensor set, or the folder of a sub-model or a simulated run.

    A folder brings its own contract. Raises MissingFile, DamagedFile naming the tensor that is
    missing, unknown, of another shape or not finite, ConfigError without a contract, InputError
    for a run whose network no board has, or WireError.
    """
    if not path.exists():
        msg = f"there is no model {path}"
        raise MissingFile(msg)
    if (path / simulated.FILE).is_file():
        return _merged(_simulated(path))
    if path.is_dir():
        return _merged(_personal(path))
    if contract is None:
        msg = f"{path} does not say what model it is of; name the contract with --contract"
        raise ConfigError(msg)
    return _merged(_whole(path, contract))


def _merged(source: Source) -> Source:
    contract = source.contract
    tensors, spec = merge(source.tensors, contract.spec, source.depth)
    return replace(source, tensors=tensors, contract=replace(contract, spec=spec))


def _whole(path: Path, contract: ModelContract) -> Source:
    spec = contract.spec
    if _starts_with(path, MAGIC):
        tensors = _packed(path, path.read_bytes(), spec, spec.depth)
        checkpoint.check({n: t.decode() for n, t in tensors.items()}, spec, str(path))
    else:
        weights = checkpoint.load(path, spec)
        tensors = {name: Float32Tensor(value) for name, value in weights.items()}
    digest = sha256_hex(path.read_bytes())
    return Source(contract, spec.depth, 0, tensors, {"checkpoint": digest})


def _personal(folder: Path) -> Source:
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = submodel_from_bytes(data)
        stored = (folder / manifest.weights).read_bytes()
    except OSError as error:
        msg = f"{folder} is no sub-model: {error.filename} cannot be read: {error.strerror}"
        raise MissingFile(msg) from error
    if sha256_hex(stored) != manifest.files[manifest.weights].sha256:
        msg = f"{folder / manifest.weights} is not the file that the manifest names"
        raise DamagedFile(msg)
    spec, depth = manifest.model, manifest.plan.exit_depth
    tensors = _packed(folder / manifest.weights, stored, spec, depth)
    contract = ModelContract(spec, manifest.preprocessing, manifest.labels)
    provenance = {**manifest.provenance, "sub_model": sha256_hex(data)}
    plan = manifest.plan
    return Source(contract, depth, plan.bits, tensors, provenance, plan.layer_bits)


def _simulated(folder: Path) -> Source:
    try:
        told = json.loads((folder / deployable.CONTRACT).read_bytes())
        exits, modulation = told["network"]["exits"], told["network"]["modulation"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{folder} has no usable {deployable.CONTRACT}; run `reefleet simulate` to its end"
        raise MissingFile(msg) from error
    if exits != "ree" or modulation == "off":
        msg = f"{folder} trained {exits} with modulation {modulation}; boards run Ree, modulated"
        raise InputError(msg)
    contract = ModelContract.from_json(told)
    weights = simulated.shared_model(folder)
    checkpoint.check(weights, contract.spec, str(folder))
    tensors = {name: Float32Tensor(value) for name, value in weights.items()}
    digest = sha256_hex((folder / simulated.FILE).read_bytes())
    depth = contract.spec.depth
    provenance = {"simulation": digest}
    return Source(contract, depth, 0, tensors, provenance, samples=folder / deployable.SAMPLES)


def _packed(path: Path, data: bytes, spec: ModelSpec, depth: int) -> dict[str, EncodedTensor]:
    try:
        tensors = unpack_tensors(data, 4 * parameter_count(spec))
    except WireError as error:
        msg = f"{path} is not a packed tensor set: {error}"
        raise DamagedFile(msg) from error
    expected = tensor_shapes(spec, depth)
    for name in sorted(tensors.keys() ^ expected.keys()):
        msg = f"{path}: tensor {name!r} is {'missing' if name in expected else 'unknown'}"
        raise DamagedFile(msg)
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            msg = f"{path}: tensor {name!r} has shape {tensors[name].shape}, expected {shape}"
            raise DamagedFile(msg)
    return tensors


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError as error:
        msg = f"cannot read the model {path}: {error.strerror}"
        raise MissingFile(msg) from error
