"""The model card of a bundle: what it is, what it reads, how good it is, where it comes from."""

from __future__ import annotations

from reefleet.model import VIT
from reefleet.wire.manifest import SubmodelBundle

_RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "litert": "LiteRT (ai-edge-litert); int8 and float32 also in tflite-runtime 2.14",
    "tensorrt": "TensorRT; checked against the parser's rules and in onnxruntime, not on a Jetson",
}
_EXIT_COLUMNS = (
    "| exit | million MACs | float32 | this bundle | leave here | largest error |",
    "| ---: | ---: | ---: | ---: | ---: | ---: |",
)
_ERROR_NOTE = (
    "The error is the largest difference of any file from torch with the same weights, as a share "
    "of the largest logit."
)
_STAGE_NOTE = "- `stage-N.onnx` with `weights.rft`: what `reefleet edge infer` answers from."
_LIMITS = (
    "Measured on the samples above alone, and the thresholds are chosen on them too. Inputs unlike "
    "them may leave early with misplaced confidence."
)


def render(manifest: SubmodelBundle, samples: int, early_accuracy: float, depth: float) -> str:
    """Markdown; the same manifest gives the same text."""
    spec, plan, pre = manifest.model, manifest.plan, manifest.preprocessing
    _, high, wide = pre.shape
    backbone = "ViT" if spec.kind == VIT else "convolutional network"
    grey = "grey" if pre.channels == 1 else "RGB"
    about = (
        f"An early-exit {backbone} cut to {plan.exit_depth} of {spec.depth} blocks, linear weights "
        f"of {plan.bits} bits, {len(manifest.labels)} classes. It may leave after "
        f"{', '.join(str(stage.exit_depth) for stage in manifest.stages)} blocks."
    )
    reads = (
        f"Input `image`: float32 [B, {pre.channels}, {high}, {wide}], a {grey} image "
        f"resized to {high} x {wide}; each value v of 0..255 becomes "
        f"(v / 255 - {pre.mean:g}) / {pre.std:g}."
    )
    gives = (
        "Output `logits`: of one graph [B, exits, classes], of a stage [B, classes]. A stage also "
        "gives `tokens_out` and `history_out`, the next one's `tokens` and `history`."
    )
    early = (
        f"On {samples} validation samples. Early exit: {early_accuracy:.1%} after {depth:.2f} "
        "blocks on average."
    )
    exits = [
        f"| {e.exit_depth} | {e.macs / 1e6:.2f} | {e.float_accuracy:.1%} | {e.accuracy:.1%} "
        f"| {e.early_exits:.1%} | {e.relative_error:.2%} |"
        for e in manifest.exits
    ]
    origin = [f"- {name}: `{value}`" for name, value in sorted(manifest.provenance.items())]
    license_ = manifest.license or "not stated by whoever built this"
    lines = ["# Model card", "", about, "", "## Input and output", "", reads, "", gives, ""]
    lines += [f"Classes: {', '.join(manifest.labels)}.", "", "## Accuracy", "", early, ""]
    lines += [*_EXIT_COLUMNS, *exits, "", _ERROR_NOTE, "", "## Files", "", _STAGE_NOTE, ""]
    lines += [*_variants(manifest), "", "## Origin", "", f"License: {license_}.", "", *origin]
    return "\n".join([*lines, "", "## Limits", "", _LIMITS, ""])


def _variants(manifest: SubmodelBundle) -> list[str]:
    return [
        f"- `{'`, `'.join(variant.files)}`: {variant.form}, batch {variant.batch}, "
        f"{_RUNTIMES.get(variant.runtime, variant.runtime)}."
        for variant in manifest.variants
    ]
