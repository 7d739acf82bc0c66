"""`reefleet export check`, `show` and `bench`: what a bundle holds, whether it holds, how fast."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.model import VIT, ModelSpec, state_shape

if TYPE_CHECKING:
    from export.bench import Bench, Row
    from reefleet.wire.manifest import SubmodelBundle

CHECK_EXAMPLE = """\
example:
  reefleet export check sub-models/rpi-4b
"""
SHOW_EXAMPLE = """\
examples:
  reefleet export show sub-models/rpi-4b
  reefleet export show sub-models/rpi-4b --picture rpi-4b.png
"""
BENCH_EXAMPLE = """\
example:
  reefleet export bench sub-models/rpi-4b --runs 200
"""


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `check`, `show` and `bench`."""
    check = commands.add_parser(
        "check",
        help="verify a bundle again: digests, schemas, rules, weights, parity",
        description="Verify a bundle on the samples inside it; the first failure is named.",
        epilog=CHECK_EXAMPLE,
    )
    show = commands.add_parser(
        "show",
        help="print what a bundle holds, with accuracy against latency",
        description="Print a bundle's manifest for people. Latency is measured here, now.",
        epilog=SHOW_EXAMPLE,
    )
    bench = commands.add_parser(
        "bench",
        help="measure every form of a bundle against the full float32 model",
        description="Latency at 1 and 2 threads, load time, memory and size of every form,\n"
        "each in a process of its own. Figures are of the machine this runs on.",
        epilog=BENCH_EXAMPLE,
    )
    for parser, doing in ((check, _check), (show, _show), (bench, _bench)):
        parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.set_defaults(export_run=doing)
    show.add_argument("--picture", type=Path, metavar="FILE", help="also draw it (.png, .svg)")
    bench.add_argument("--runs", type=int, default=50, help="timed runs of each (default: 50)")


def _check(options: argparse.Namespace) -> int:
    from export.check import Checked, check_bundle

    findings: list[Checked] = []

    def tell(found: Checked) -> None:
        findings.append(found)
        if not options.json:
            sys.stdout.write(f"{'ok':<4}{found.subject:<28}{found.finding}\n")
            sys.stdout.flush()

    check_bundle(options.bundle, tell)
    if options.json:
        sys.stdout.write(json.dumps([asdict(found) for found in findings]) + "\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    from export.check import read_bundle
    from export.picture import draw, points, text_chart
    from reefleet.wire.manifest_json import to_bytes

    manifest, _ = read_bundle(options.bundle)
    measured = points(options.bundle, manifest) if manifest.exits else []
    if options.picture is not None:
        draw(options.picture, measured or points(options.bundle, manifest), options.bundle.name)
    if options.json:
        result = {
            **json.loads(to_bytes(manifest)),
            "latency": [asdict(point) for point in measured],
        }
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 0
    lines = [*_summary(manifest), *(["", text_chart(measured)] if measured else [])]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _backbone(spec: ModelSpec) -> str:
    if spec.kind == VIT:
        return f"ViT, width {spec.width}, {spec.tokens} tokens"
    return f"convolutional, {state_shape(spec, 0)[-1]} to {state_shape(spec, spec.depth)[-1]} wide"


def _summary(manifest: SubmodelBundle) -> Iterator[str]:
    spec, plan, pre = manifest.model, manifest.plan, manifest.preprocessing
    yield f"sub-model   {plan.exit_depth} of {spec.depth} blocks, {plan.bits} bits a linear weight"
    yield f"backbone    {_backbone(spec)}, {spec.classes} classes"
    yield (
        f"input       image float32 [B, {', '.join(str(extent) for extent in pre.shape)}], "
        f"(v / 255 - {pre.mean:g}) / {pre.std:g}"
    )
    yield f"labels      {', '.join(manifest.labels[:12])}{', ...' if spec.classes > 12 else ''}"
    yield f"license     {manifest.license or 'not stated'}"
    for name, value in sorted(manifest.provenance.items()):
        yield f"{name:<12}{value}"
    yield ""
    yield f"{'file':<32}{'bytes':>12}  sha256"
    for name, entry in sorted(manifest.files.items()):
        yield f"{name:<32}{entry.size_bytes:>12,}  {entry.sha256[:16]}"
    if manifest.exits:
        yield ""
        heads = f"{'exit':>5}{'leave above':>13}{'leave here':>12}"
        yield f"{heads}{'float32':>9}{'here':>8}{'MMACs':>9}"
    for exit_, threshold in zip(manifest.exits, manifest.thresholds, strict=False):
        above = f"{threshold:.3f}" if threshold <= 1 else "never"
        yield (
            f"{exit_.exit_depth:>5}{above:>13}{exit_.early_exits:>12.1%}"
            f"{exit_.float_accuracy:>9.1%}{exit_.accuracy:>8.1%}{exit_.macs / 1e6:>9.2f}"
        )


def _bench(options: argparse.Namespace) -> int:
    from export.bench import bench_bundle
    from reefleet.errors import ConfigError

    if options.runs < 1:
        msg = f"--runs is {options.runs}; it must be at least 1"
        raise ConfigError(msg)
    if not options.json:
        sys.stdout.write(
            f"{'form':<28}{'threads':>8}{'p50 ms':>9}{'p95 ms':>9}{'ratio':>7}{'load ms':>9}"
            f"{'load MiB':>9}{'run MiB':>9}{'KiB':>9}{'MMACs':>9}\n"
        )
    result = bench_bundle(options.bundle, options.runs, (lambda _: None) if options.json else _row)
    if options.json:
        sys.stdout.write(json.dumps(asdict(result)) + "\n")
    else:
        sys.stdout.write("\n".join(_early(result)) + "\n")
    return 0


def _row(row: Row) -> None:
    figures = row.figures
    sys.stdout.write(
        f"{row.name:<28}{row.threads:>8}{figures.p50_ms:>9.2f}{figures.p95_ms:>9.2f}"
        f"{row.ratio:>7.2f}{figures.load_ms:>9.1f}{figures.loaded_mib:>9.1f}"
        f"{figures.running_mib:>9.1f}"
        f"{row.size_bytes / 1024:>9,.0f}{row.macs / 1e6:>9.2f}\n"
    )
    sys.stdout.flush()


def _early(result: Bench) -> Iterator[str]:
    yield "ratio: of the median, an image, to the full float32 model at as many threads"
    yield "MiB: resident memory that loading, and then running, adds to a process of its own"
    early = result.early_exit
    if early is not None:
        yield (
            f"early exit: {early.mean_ms:.2f} ms and {early.accuracy:.1%} on the {early.samples} "
            f"samples inside, {early.full_depth_ms:.2f} ms and {early.full_depth_accuracy:.1%} at "
            "full depth"
        )
