"""`reefleet export`: compile the graphs of a plan, build a board's sub-model from a checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.build import Built
    from reefleet.model import ModelSpec
    from reefleet.plan import SubmodelPlan

COMPILE_EXAMPLE = """\
example:
  reefleet export compile --contract contract.json --plan plan.json --out bundle
"""
BUILD_EXAMPLE = """\
example:
  reefleet export build weights.safetensors --contract contract.json \\
      --device rpi-4b --data digits.npz --out sub-models/rpi-4b
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `export` and its two commands."""
    parser = subparsers.add_parser(
        "export",
        help="build a board's sub-model, compile task bundles",
        description="Turn the model into files that boards run.",
        epilog=BUILD_EXAMPLE,
    )
    commands = parser.add_subparsers(dest="export_command", metavar="COMMAND", required=True)
    _add_build(commands)
    compiling = commands.add_parser(
        "compile",
        help="compile the task bundle of a plan (the coordinator does this itself)",
        description="Trace and lower every graph of one plan; weights stay apart.",
        epilog=COMPILE_EXAMPLE,
    )
    compiling.add_argument("--contract", required=True, type=Path, help="model contract (JSON)")
    compiling.add_argument("--plan", required=True, type=Path, help="sub-model plan (JSON)")
    compiling.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    compiling.set_defaults(export_run=_compile)


def run(options: argparse.Namespace) -> int:
    """Do the chosen command."""
    return int(options.export_run(options))


def _add_build(commands: argparse._SubParsersAction[Any]) -> None:
    build = commands.add_parser(
        "build",
        help="build the quantized sub-model of a board from a checkpoint",
        description="Cut, quantize and pack the sub-model that a board can bear, check every exit\n"
        "against torch, and write a bundle that `reefleet edge infer` answers from.",
        epilog=BUILD_EXAMPLE,
    )
    build.add_argument("checkpoint", type=Path, help="safetensors file with the full model")
    build.add_argument("--contract", required=True, type=Path, help="model contract (JSON)")
    build.add_argument("--device", required=True, help="board id of the catalog")
    build.add_argument("--depth", type=int, help="exit depth (default: the planner's)")
    build.add_argument("--bits", type=int, help="bits a weight, 1 to 8 (default: the planner's)")
    build.add_argument("--latency-ms", type=float, help="budget of an answer (default: none)")
    build.add_argument("--data", required=True, type=Path, help=".npz with validation samples")
    build.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    build.add_argument("--json", action="store_true", help="print the result as JSON")
    build.set_defaults(export_run=_build)


def _compile(options: argparse.Namespace) -> int:
    from export.compile import compile_task
    from reefleet.cli.inputs import read_contract, read_json
    from reefleet.plan import SubmodelPlan

    begun = time.perf_counter()
    contract = read_contract(options.contract)
    plan = SubmodelPlan.from_json(read_json(options.plan))
    digest = compile_task(contract, plan, options.out)
    seconds = round(time.perf_counter() - begun, 2)
    sys.stdout.write(json.dumps({"manifest_sha256": digest, "seconds": seconds}) + "\n")
    return 0


def _build(options: argparse.Namespace) -> int:
    from export.build import build_submodel
    from reefleet.blobs import sha256_hex
    from reefleet.cli.inputs import read_contract
    from reefleet.datasets.pack import load_parts
    from reefleet.wire import checkpoint

    contract = read_contract(options.contract)
    plan = _plan(options, contract.spec)
    (validation,) = load_parts(options.data, ("validation",))
    weights = checkpoint.load(options.checkpoint, contract.spec)
    source = sha256_hex(options.checkpoint.read_bytes())
    built = build_submodel(contract, weights, plan, validation, options.out, source)
    if options.json:
        result = {"plan": plan.to_json(), **asdict(built), "folder": str(options.out)}
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write(_text(options, plan, built))
    return 0


def _plan(options: argparse.Namespace, spec: ModelSpec) -> SubmodelPlan:
    from dataclasses import replace

    from coordinator.planner import Budget, plan_for
    from devices import catalog

    profile = catalog.reference_profile(options.device)
    plan = plan_for(profile, spec, Budget(latency_ms=options.latency_ms))
    chosen = replace(
        plan, exit_depth=options.depth or plan.exit_depth, bits=options.bits or plan.bits
    )
    spec.exits_within(chosen.exit_depth)
    return chosen


def _text(options: argparse.Namespace, plan: SubmodelPlan, built: Built) -> str:
    lines = [
        f"{options.device}: depth {plan.exit_depth}, {plan.bits} bits",
        f"{built.packed_bytes:,} bytes packed, the full model has {built.float32_bytes:,}",
        f"{'exit':>6} {'float32':>9} {'packed':>9} {'error':>9} {'agree':>7}",
    ]
    lines += [
        f"{exit_.exit_depth:>6} {plain:>9.1%} {coded:>9.1%} "
        f"{exit_.relative_error:>9.2%} {exit_.agreement:>7.1%}"
        for exit_, plain, coded in zip(
            built.exits, built.float_accuracy, built.accuracy, strict=True
        )
    ]
    lines.append(
        f"early exit: accuracy {built.early_exit_accuracy:.1%} at mean depth "
        f"{built.mean_exit_depth:.2f} on the validation samples"
    )
    return "\n".join([*lines, f"written to {options.out}"]) + "\n"
