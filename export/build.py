"""Building the sub-model of a board: cut, quantize, lower, check in its runtimes, write."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bundle import entries, require_replaceable, write_bundle
from export.card import render
from export.parity import ExitParity, check_variant, compare, run_stages, torch_logits
from export.quantize import eight_bit_tensors, requantize
from export.source import Source
from export.stages import model_part, stage_graphs
from export.static_quantization import calibrate
from export.targets import Target
from export.tensorrt_bench import SCRIPT, SCRIPT_FILE
from export.variants import SubModel, build_variant
from reefleet.datasets.pack import Part, normalized
from reefleet.errors import ConfigError, DataTooSmall
from reefleet.learning.thresholds import choose, confidence, exits_taken
from reefleet.model import parameter_count, quantized_tensors
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest import ExitFigures, Stage, SubmodelBundle, Variant
from reefleet.wire.tensors import EncodedTensor, pack_tensors

WEIGHTS_FILE = "weights.rft"
SAMPLES_FILE = "samples.npz"
CARD_FILE = "model-card.md"
CALIBRATION_SAMPLES = 64
DEFAULT_SAMPLES = 32
_ERROR_DIGITS = 6  # what the manifest keeps of a measured error, so that it has one digest


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build: the plan, the forms, the batch of the variants, how many samples go along."""

    plan: SubmodelPlan
    target: Target
    batch: int = 1
    samples: int = DEFAULT_SAMPLES
    license: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """What a build measured: parity of each variant, accuracy on the validation samples, sizes."""

    manifest_sha256: str
    exits: tuple[ExitFigures, ...]
    parity: Mapping[str, tuple[ExitParity, ...]]
    early_exit_accuracy: float
    mean_exit_depth: float
    packed_bytes: int
    bundle_bytes: int
    float32_bytes: int


def build_submodel(
    source: Source,
    recipe: Recipe,
    validation: Part,
    folder: Path,
    calibration: Part | None = None,
) -> Built:
    """Write the bundle of a recipe cut from `source`; nothing is left where a check fails.

    Raises DataTooSmall without validation or calibration samples, ParityFailure where a file in its
    runtime disagrees with torch, RuleBroken where TensorRT would refuse a file.
    """
    require_replaceable(folder)
    watched = validation if calibration is None else calibration
    return _Build(source, recipe, validation, watched).write(folder)


class _Build:
    """One build; its steps share the tensors, the images and torch's logits."""

    def __init__(self, source: Source, recipe: Recipe, validation: Part, calibration: Part) -> None:
        self.recipe, self.validation, self.source = recipe, validation, source
        self.contract, self.spec = source.contract, source.contract.spec
        self.depth = recipe.plan.exit_depth
        if self.depth > source.depth:
            msg = f"the model holds {source.depth} blocks; a depth of {self.depth} cannot be cut"
            raise ConfigError(msg)
        for part, name in ((validation, "validation"), (calibration, "calibration")):
            if not len(part):
                msg = f"the data hold no {name} samples; at least one is needed"
                raise DataTooSmall(msg)
            part.require(self.spec, name)
        self.images = normalized(validation.images, self.contract.preprocessing)
        self.tensors = requantize(
            source.tensors,
            self.spec,
            self.depth,
            recipe.plan.widths(quantized_tensors(self.spec, self.depth)),
            int4=any(form.form == "int4" for form in recipe.target.forms),
        )
        self.torch = torch_logits(self.tensors, self.spec, self.depth, self.images)
        self.shown = min(max(recipe.samples, 1), len(validation))
        self.calibration_images = normalized(
            calibration.images[:CALIBRATION_SAMPLES], self.contract.preprocessing
        )

    def write(self, folder: Path) -> Built:
        stages, files = self._stages()
        logits = run_stages(stages, files, self.tensors, self.images)
        named = [(stage.file, stage.exit_depth) for stage in stages]
        labels = self.validation.labels
        parity = {"stages": tuple(compare(named, logits, self.torch, exact=False, labels=labels))}
        variants, added, measured = self._variants()
        files |= added
        parity |= measured
        hits = logits.argmax(-1) == self.validation.labels[:, None]  # [N, E]
        thresholds = choose(confidence(logits), hits)
        taken = exits_taken(confidence(logits), thresholds)
        exits = self._figures(stages, hits, taken, parity)
        files[WEIGHTS_FILE] = pack_tensors(self.tensors)
        files[SAMPLES_FILE] = self._samples()
        manifest = SubmodelBundle(
            model=self.spec,
            plan=self.recipe.plan,
            stages=stages,
            weights=WEIGHTS_FILE,
            thresholds=thresholds,
            labels=self.contract.labels,
            preprocessing=self.contract.preprocessing,
            files={},
            provenance=self._provenance(),
            variants=variants,
            exits=exits,
            samples=SAMPLES_FILE,
            card=CARD_FILE,
            license=self.recipe.license,
        )
        early = float(hits[np.arange(len(hits)), taken].mean())
        depth = float(np.asarray([stage.exit_depth for stage in stages])[taken].mean())
        files[CARD_FILE] = render(manifest, len(self.validation), early, depth).encode()
        manifest = replace(manifest, files=entries(files))
        return Built(
            manifest_sha256=write_bundle(folder, manifest, files),
            exits=exits,
            parity=parity,
            early_exit_accuracy=early,
            mean_exit_depth=depth,
            packed_bytes=len(files[WEIGHTS_FILE]),
            bundle_bytes=sum(len(data) for data in files.values()),
            float32_bytes=4 * parameter_count(self.spec),
        )

    def _stages(self) -> tuple[tuple[Stage, ...], dict[str, bytes]]:
        also = eight_bit_tensors(self.spec, self.depth)
        built = stage_graphs(self.spec, self.depth, quantized=True, also=also)
        files = {stage.file: graph.SerializeToString(deterministic=True) for stage, graph in built}
        return tuple(stage for stage, _ in built), files

    def _variants(
        self,
    ) -> tuple[tuple[Variant, ...], dict[str, bytes], dict[str, tuple[ExitParity, ...]]]:
        model = self._model()
        depths = self.spec.exits_within(self.depth)
        variants: list[Variant] = []
        files: dict[str, bytes] = {}
        parity: dict[str, tuple[ExitParity, ...]] = {}
        for form in self.recipe.target.forms:
            variant, made = build_variant(model, form)
            labels = self.validation.labels
            found = check_variant(variant, made, depths, self.images, self.torch, labels)
            parity[variant.name] = tuple(found)
            variants.append(variant)
            files |= made
        if self.recipe.target.parser is not None:
            files[SCRIPT_FILE] = SCRIPT
        return tuple(variants), files, parity

    def _model(self) -> SubModel:
        parser, seen = self.recipe.target.parser, None
        if parser is not None:
            part = model_part(self.spec, self.depth)
            seen = calibrate(part, self.tensors, self.calibration_images)
            seen.require_half_range()
        return SubModel(self.spec, self.depth, self.tensors, self.recipe.batch, seen, parser)

    def _figures(
        self,
        stages: tuple[Stage, ...],
        hits: NDArray[np.bool_],
        taken: NDArray[np.int64],
        parity: Mapping[str, tuple[ExitParity, ...]],
    ) -> tuple[ExitFigures, ...]:
        plain = torch_logits(
            _restored(self.source, self.tensors), self.spec, self.depth, self.images
        )
        float_hits = plain.argmax(-1) == self.validation.labels[:, None]
        return tuple(
            ExitFigures(
                exit_depth=stage.exit_depth,
                macs=stage.macs,
                float_accuracy=float(float_hits[:, index].mean()),
                accuracy=float(hits[:, index].mean()),
                early_exits=float((taken == index).mean()),
                relative_error=round(
                    max(found[index].relative_error for found in parity.values()), _ERROR_DIGITS
                ),
            )
            for index, stage in enumerate(stages)
        )

    def _samples(self) -> bytes:
        memory = io.BytesIO()
        np.savez(
            memory,
            sample_images=self.validation.images[: self.shown],
            sample_labels=self.validation.labels[: self.shown],
            logits=self.torch[: self.shown],
        )
        return memory.getvalue()

    def _provenance(self) -> dict[str, str]:
        found = dict(self.source.provenance)
        if self.recipe.target.board:
            found["board"] = self.recipe.target.board
        if self.recipe.target.parser is not None:
            found["jetpack"] = self.recipe.target.parser.jetpack
        return found


def _restored(source: Source, tensors: Mapping[str, EncodedTensor]) -> dict[str, EncodedTensor]:
    return {name: source.tensors[name] for name in tensors}
