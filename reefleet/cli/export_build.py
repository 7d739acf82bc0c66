"""`reefleet export build`: one bundle a board, from a checkpoint, a sub-model or a simulation."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.errors import ConfigError, ExportError, ReefleetError

if TYPE_CHECKING:
    from devices.catalog import Board
    from export.build import Built
    from export.source import Source
    from export.targets import Target
    from reefleet.datasets.pack import Part
    from reefleet.plan import SubmodelPlan

EXAMPLE = """\
examples:
  reefleet export build weights.safetensors --contract contract.json \\
      --device rpi-4b --data digits.npz --out sub-models/rpi-4b
  reefleet export build weights.safetensors --contract contract.json \\
      --device rpi-zero2w --device jetson-orin-nano --data digits.npz --out sub-models
  reefleet export build out/rpi-zero2w --format onnx --format tflite --data digits.npz --out files
  reefleet export build out/depth_ablations/reefl-rate0.03-seed0 --device rpi-4b --out sub-models
  reefleet export check sub-models/rpi-4b
"""
DESCRIPTION = """\
Cut, quantize and pack the sub-model that a board can bear, lower it into the forms the board runs,
check every exit of every file against torch in its real runtime, and write a bundle that
`reefleet edge infer` answers from. MODEL is a checkpoint (safetensors), a version of a fleet's
model (.rft), the folder of a personal sub-model, which keeps the bits a device has learned, or the
folder of a run of `reefleet simulate`.

One board is written to OUT itself, several to OUT/BOARD.
"""
FORMAT_NAMES = ("onnx", "tflite", "tensorrt")
FORM_NAMES = ("float32", "int8", "packed", "int4")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one board."""

    board: str
    folder: Path
    seconds: float
    plan: SubmodelPlan | None = None
    built: Built | None = None
    error: ReefleetError | None = None


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `build`."""
    build = commands.add_parser(
        "build",
        help="build the quantized sub-models of boards from a model",
        description=DESCRIPTION,
        epilog=EXAMPLE,
    )
    add = build.add_argument
    add("model", type=Path, metavar="MODEL", help="checkpoint, version, or folder")
    add("--contract", type=Path, help="model contract (JSON); a folder brings its own")
    add("--device", action="append", default=[], metavar="BOARD", help="board; may be repeated")
    add("--all-devices", action="store_true", help="every board of the catalog")
    add("--depth", type=int, help="exit depth (default: the planner's)")
    add("--bits", type=int, help="bits a weight, 1 to 8 (default: the planner's)")
    add("--latency-ms", type=float, help="budget of an answer (default: none)")
    add(
        "--format",
        action="append",
        default=[],
        choices=FORMAT_NAMES,
        help="may be repeated (default: what suits the board)",
    )
    add(
        "--form",
        action="append",
        default=[],
        choices=FORM_NAMES,
        help="how weights are held; may be repeated (default: packed in ONNX, int8 in TFLite)",
    )
    add("--jetpack", default="", help="JetPack of a Jetson (default: its newest)")
    add("--batch", type=int, default=1, help="images a call of the one-file graphs (default: 1)")
    add("--data", type=Path, help=".npz with validation samples; a simulated run brings its own")
    add("--calibration", type=Path, help=".npz whose validation part calibrates TensorRT's int8")
    add("--samples", type=int, default=32, help="samples put into the bundle (default: 32)")
    add("--license", default="", help="license of the model, for the manifest and the card")
    add("--out", required=True, type=Path, help="folder of the bundle, or of several")
    add("--json", action="store_true", help="print the result as JSON")
    build.set_defaults(export_run=_build)


def _build(options: argparse.Namespace) -> int:
    boards = _boards(options)
    source, validation, calibration = _inputs(options)
    outcomes = []
    for number, board in enumerate(boards, 1):
        outcome = _one(options, board, source, (validation, calibration), many=len(boards) > 1)
        outcomes.append(outcome)
        if len(boards) > 1:
            sys.stderr.write(f"[{number}/{len(boards)}] {_line(outcome)}\n")
        elif outcome.error is not None:
            raise outcome.error
    _print(options, outcomes)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        msg = f"{len(failed)} of {len(outcomes)} boards got no bundle: {failed[0].error}"
        raise ExportError(msg)
    return 0


def _boards(options: argparse.Namespace) -> list[Board | None]:
    from devices import catalog

    if options.all_devices:
        return list(catalog.boards().values())
    found = list(dict.fromkeys(catalog.find(name).id for name in options.device))
    return [catalog.find(name) for name in found] or [None]


def _inputs(options: argparse.Namespace) -> tuple[Source, Part, Part | None]:
    from export.source import load
    from reefleet.cli.inputs import read_contract
    from reefleet.datasets.pack import load_parts

    for name, least in (("batch", 1), ("samples", 1)):
        if getattr(options, name) < least:
            msg = f"--{name} is {getattr(options, name)}; it must be at least {least}"
            raise ConfigError(msg)
    contract = read_contract(options.contract) if options.contract else None
    source = load(options.model, contract)
    data = options.data or source.samples
    if data is None:
        msg = "every file is checked on real samples; name an .npz of them with --data"
        raise ConfigError(msg)
    (validation,) = load_parts(data, ("validation",))
    if options.calibration is None:
        return source, validation, None
    (calibration,) = load_parts(options.calibration, ("validation",))
    return source, validation, calibration


def _one(
    options: argparse.Namespace,
    board: Board | None,
    source: Source,
    data: tuple[Part, Part | None],
    *,
    many: bool,
) -> _Outcome:
    from export.build import Recipe, build_submodel
    from export.targets import target_for

    name = board.id if board else "no board"
    folder = options.out / name if many else options.out
    begun, plan = time.perf_counter(), None
    try:
        target = target_for(board, options.format, options.form, options.jetpack)
        plan = _plan(options, board, source, target)
        recipe = Recipe(plan, target, options.batch, options.samples, options.license)
        built = build_submodel(source, recipe, data[0], folder, data[1])
    except ReefleetError as error:
        return _Outcome(name, folder, time.perf_counter() - begun, plan, error=error)
    return _Outcome(name, folder, time.perf_counter() - begun, plan, built)


def _plan(
    options: argparse.Namespace, board: Board | None, source: Source, target: Target
) -> SubmodelPlan:
    from dataclasses import replace

    from coordinator.planner import Budget, plan_for
    from devices import catalog
    from reefleet.model import quantized_tensors
    from reefleet.plan import SubmodelPlan

    spec = source.contract.spec
    if source.bits:
        # A personal sub-model has the depth and the bits that its device has learned.
        plan = SubmodelPlan(source.depth, source.bits, 1, 1, 1, "float32")
    elif board is None:
        if options.depth is None or options.bits is None:
            msg = "name a board with --device, or both --depth and --bits"
            raise ConfigError(msg)
        plan = SubmodelPlan(options.depth, options.bits, 1, 1, 1, "float32")
    else:
        plan = plan_for(
            catalog.reference_profile(board.id), spec, Budget(latency_ms=options.latency_ms)
        )
    int4 = any(form.form == "int4" for form in target.forms)
    bits = options.bits or (min(plan.bits, 4) if int4 else plan.bits)
    depth = options.depth or plan.exit_depth
    spec.exits_within(depth)
    count = len(quantized_tensors(spec, depth))
    each = () if options.bits or int4 else (source.layer_bits or plan.layer_bits)[:count]
    return replace(plan, exit_depth=depth, bits=bits, layer_bits=each)


def _print(options: argparse.Namespace, outcomes: list[_Outcome]) -> None:
    if options.json:
        results = [_json(outcome) for outcome in outcomes]
        sys.stdout.write(json.dumps(results[0] if len(results) == 1 else results) + "\n")
    elif len(outcomes) == 1:
        sys.stdout.write("\n".join(_text(outcomes[0])) + "\n")
    else:
        sys.stdout.write("\n".join(_table(outcomes)) + "\n")


def _json(outcome: _Outcome) -> dict[str, Any]:
    return {
        "board": outcome.board,
        "folder": str(outcome.folder),
        "seconds": round(outcome.seconds, 2),
        **({"plan": outcome.plan.to_json()} if outcome.plan else {}),
        **(asdict(outcome.built) if outcome.built else {}),
        **({"error": str(outcome.error)} if outcome.error else {}),
    }


def _line(outcome: _Outcome) -> str:
    if outcome.error is not None:
        return f"{outcome.board}: {outcome.error}"
    return f"{outcome.board}: {outcome.seconds:.1f} s"


def _table(outcomes: list[_Outcome]) -> Iterator[str]:
    yield (
        f"{'board':<22}{'depth':>6}{'bits':>5}{'packed':>10}{'bundle':>11}"
        f"{'accuracy':>10}{'early':>8}{'mean':>6}{'error':>8}{'s':>6}"
    )
    for outcome in outcomes:
        built, plan = outcome.built, outcome.plan
        if built is None or plan is None:
            yield f"{outcome.board:<22}  {outcome.error}"
            continue
        worst = max(exit_.relative_error for exit_ in built.exits)
        yield (
            f"{outcome.board:<22}{plan.exit_depth:>6}{plan.bits:>5}{built.packed_bytes:>10,}"
            f"{built.bundle_bytes:>11,}{built.exits[-1].accuracy:>10.1%}"
            f"{built.early_exit_accuracy:>8.1%}{built.mean_exit_depth:>6.2f}{worst:>8.2%}"
            f"{outcome.seconds:>6.1f}"
        )


def _text(outcome: _Outcome) -> Iterator[str]:
    plan, built = outcome.plan, outcome.built
    if plan is None or built is None:
        return
    yield f"{outcome.board}: depth {plan.exit_depth}, {plan.bits} bits"
    yield f"{built.packed_bytes:,} bytes packed, the full model has {built.float32_bytes:,}"
    yield f"{'exit':>6}{'float32':>10}{'packed':>10}{'leave here':>12}{'largest error':>15}"
    for exit_ in built.exits:
        yield (
            f"{exit_.exit_depth:>6}{exit_.float_accuracy:>10.1%}{exit_.accuracy:>10.1%}"
            f"{exit_.early_exits:>12.1%}{exit_.relative_error:>15.2%}"
        )
    for name, results in built.parity.items():
        worst = max(result.relative_error for result in results)
        least = min(result.agreement for result in results)
        lost = 100 * min(result.accuracy_change for result in results)
        yield (
            f"{name:<28} differs from torch by {worst:.2%} at most, {least:.1%} agree, "
            f"accuracy {lost:+.1f} points at worst"
        )
    yield (
        f"early exit: accuracy {built.early_exit_accuracy:.1%} at mean depth "
        f"{built.mean_exit_depth:.2f} on the validation samples"
    )
    yield f"written to {outcome.folder} in {outcome.seconds:.1f} s"
