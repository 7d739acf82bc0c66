"""`reefleet plan`: which sub-model a board or a fleet would get, and why not another one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli.inputs import read_contract, read_json
from reefleet.cli.table import table
from reefleet.errors import InputError
from reefleet.model import ModelSpec

if TYPE_CHECKING:
    from coordinator.planner import AccuracyTable, Budget, Decision
    from coordinator.planner.fleet import Member, Total
    from coordinator.planner.options import Candidate
    from reefleet.plan import SubmodelPlan

EPILOG = """\
examples:
  reefleet plan --device rpi-4b --latency-ms 50
  reefleet plan --device rpi-4b --latency-ms 50 --runtime litert-int8 --trained full,frozen
  reefleet plan --device rpi-zero2w --memory-share 0.8 --json
  reefleet plan --device jetson-orin-nano --contract contract.json --accuracy accuracy.json
  reefleet plan --profile profile.json
  reefleet plan --device rpi-4b --what-if latency --picture what-if.png
  reefleet plan --fleet fleet.toml

fleet.toml:
  [budget]
  latency_ms = 150.0
  [[device]]
  name = "greenhouse"
  board = "rpi-4b"
  memory_mib = 2048      # default: the board's usual size
  count = 3              # default: 1
  samples = 500          # training samples each holds

Without --contract the model is a 12-block DeiT-Ti at 224 pixels with an exit after every
second block.
Without --accuracy plans are ranked by a default form; docs/planning.md tells how to measure one.
"""

DEIT_TINY = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=192,
    heads=3,
    depth=12,
    classes=100,
    exits=(2, 4, 6, 8, 10, 12),
)

# Flags that set the budget field of the same name, with their unit.
_BUDGET = {
    "latency_ms": ("X", "bound on one answer at full depth, in milliseconds"),
    "memory_share": ("S", "share of the free memory that training may take"),
    "model_share": ("S", "share of the free memory that the packed sub-model may take"),
    "storage_share": ("S", "share of the free storage that files may take, where it is known"),
    "round_deadline_s": ("T", "bound on download, training and upload of one round, in seconds"),
    "round_mib": ("N", "bound on the bytes of one round, both ways, in MiB"),
    "energy_j": ("J", "bound on one round's energy above idle, where the board's draw is known"),
}


def add_parser(subparsers: Any) -> None:
    """Add `plan`."""
    parser = subparsers.add_parser(
        "plan",
        help="show which sub-model a board would get, and why",
        description="Plan the sub-model of a board of the catalog, or of each board of a fleet.",
        epilog=EPILOG,
    )
    whom = parser.add_mutually_exclusive_group(required=True)
    whom.add_argument("--device", metavar="BOARD", help="id or alias of one board")
    whom.add_argument("--profile", type=Path, metavar="FILE", help="what `devices probe` wrote")
    whom.add_argument("--fleet", type=Path, metavar="FILE", help="boards and budget (TOML)")
    parser.add_argument("--memory-mib", type=int, default=0, metavar="N", help="its memory size")
    parser.add_argument("--samples", type=int, metavar="N", help="training samples it holds")
    parser.add_argument("--contract", type=Path, metavar="FILE", help="model contract (JSON)")
    parser.add_argument("--accuracy", type=Path, metavar="FILE", help="accuracy table (JSON)")
    for name, (metavar, text) in _BUDGET.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, type=float, metavar=metavar, help=text)
    parser.add_argument("--trained", metavar="SETS", help="trained sets it may use, best first")
    runtimes = "onnxruntime-int8 (default), onnxruntime-float or litert-int8"
    parser.add_argument("--runtime", metavar="NAME", help=f"what answers: {runtimes}")
    parser.add_argument(
        "--what-if",
        choices=("latency", "bytes", "packed", "memory"),
        help="show accuracy of every depth and bit-width against this, the Pareto front marked",
    )
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw --what-if into a file")
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    """Print the plan or plans; raises NoFeasiblePlan where nothing fits the one board."""
    from coordinator.planner import default_table, read_table
    from coordinator.planner.fleet import budget_of

    if options.picture and not options.what_if:
        msg = "--picture draws what --what-if shows; give both"
        raise InputError(msg)
    spec = DEIT_TINY if options.contract is None else read_contract(options.contract).spec
    ranks = read_table(options.accuracy) if options.accuracy else default_table(spec)
    flags: dict[str, object] = {name: getattr(options, name) for name in _BUDGET}
    flags["runtime"] = options.runtime
    flags["trained"] = tuple(options.trained.split(",")) if options.trained else None
    if options.fleet:
        return _fleet(options, spec, ranks, flags)
    return _device(options, spec, ranks, budget_of({}, flags))


def _device(
    options: argparse.Namespace, spec: ModelSpec, ranks: AccuracyTable, budget: Budget
) -> int:
    from coordinator.planner.explain import explained
    from coordinator.planner.options import options_of
    from coordinator.planner.solve import decide
    from devices import catalog
    from devices.capability import capability_of
    from devices.profile import DeviceProfile

    if options.profile:
        profile = DeviceProfile.from_json(read_json(options.profile))
        profile = replace(profile, train_samples=options.samples or profile.train_samples)
    else:
        profile = catalog.reference_profile(
            options.device, nominal_mib=options.memory_mib, train_samples=options.samples
        )
    name = profile.board or profile.model or "this machine"
    decision = decide(capability_of(profile), options_of(spec, budget, ranks))
    if options.what_if:
        _what_if(options.what_if, options.picture, decision, name)
        return 0
    plan = explained(decision)
    if options.json:
        _write(json.dumps({"board": name, **plan.to_json()}, indent=2))
    else:
        _write(_text(name, spec, plan, decision))
    return 0


def _what_if(kind: str, picture: Path | None, decision: Decision, board: str) -> None:
    from coordinator.planner.frontier import AXES, points
    from reefleet.cli.whatif import as_text, draw

    axis = AXES[kind]
    found = points(decision, axis)
    _write(as_text(found, axis, board))
    if picture:
        draw(picture, found, axis, board)
        _write(f"\npicture: {picture}")


def _fleet(
    options: argparse.Namespace, spec: ModelSpec, ranks: AccuracyTable, flags: dict[str, object]
) -> int:
    from coordinator.planner.fleet import budget_of, planned, read_fleet, total

    members, grants = read_fleet(options.fleet)
    found = planned(members, spec, budget_of(grants, flags), ranks)
    everything = total(found, spec)
    if options.json:
        _write(json.dumps(_fleet_values(found, everything), indent=2))
    else:
        _write("\n".join([*table(list(_fleet_rows(found))), "", *_total_lines(everything)]))
    return 0


def _text(board: str, spec: ModelSpec, plan: SubmodelPlan, decision: Decision) -> str:
    from reefleet.model import packed_bytes, parameter_count

    packed = packed_bytes(spec, plan.exit_depth, plan.layer_bits or plan.bits)
    full = 4 * parameter_count(spec)
    rows = [
        ("board", board),
        ("exit depth", f"{plan.exit_depth} of {spec.depth}"),
        ("bits", " ".join(map(str, plan.layer_bits)) or str(plan.bits)),
        ("batch", str(plan.batch_size)),
        ("epochs", f"{plan.local_steps} steps" if plan.local_steps else str(plan.local_epochs)),
        ("models", str(plan.models)),
        ("trained", plan.trained),
        ("codec", plan.codec),
        ("packed", f"{packed / 1e6:.2f} MB of {full / 1e6:.2f} MB float32, all blocks"),
    ]
    lines = [f"{name:<12}{value}" for name, value in rows]
    return "\n".join([*lines, "", *plan.why, "", *table(list(_verdict_rows(decision)))])


def _verdict_rows(decision: Decision) -> Iterator[tuple[str, ...]]:
    """Each depth and bit-width; neighbours that break the same bounds alike share a line."""
    from itertools import groupby

    from coordinator.planner.explain import Verdict, verdicts

    def kind(verdict: Verdict) -> tuple[int, bool, str]:
        return (verdict.exit_depth, verdict.fits, "" if verdict.fits else verdict.reason)

    yield ("depth", "bits", "expected accuracy", "verdict")
    for (depth, fits, reason), alike in groupby(verdicts(decision), kind):
        each = list(alike)
        for group in [[one] for one in each] if fits else [each]:
            high, low = group[0].bits, group[-1].bits
            bits = f"{high:.3g}" if high == low else f"{low:.3g}-{high:.3g}"
            best = f"{group[0].expected_accuracy:.4f}"
            said = "chosen" if fits and not group[0].reason else group[0].reason or reason
            yield (str(depth), bits, best, said if fits else f"refused: {said}")


def _fleet_rows(members: Sequence[Member]) -> Iterator[tuple[str, ...]]:
    from coordinator.planner.explain import binding
    from coordinator.planner.fleet import cost_of

    yield (
        *("device", "count", "depth", "bits", "models", "batch", "codec", "accuracy"),
        *("answer ms", "round s", "peak MiB", "packed MiB", "round MiB", "round J", "binding"),
    )
    for member in members:
        if member.decision is None:
            yield (member.name, str(member.count), *("-" for _ in range(12)), member.failure)
            continue
        choice, cost = member.decision.candidate, cost_of(member.decision)
        yield (
            *(member.name, str(member.count), str(choice.exit_depth), _bits(choice)),
            *(str(choice.models), str(choice.batch_size), choice.codec),
            f"{member.decision.expected_accuracy:.3f}",
            f"{cost.answer_ms:.1f}",
            f"{cost.round_s:.0f}",
            f"{cost.peak_mib:.0f}",
            f"{cost.packed_mib:.2f}",
            f"{cost.moved_mib:.1f}",
            "unknown" if cost.energy_j is None else f"{cost.energy_j:.0f}",
            binding(member.decision).removeprefix("binding: ").partition(";")[0],
        )


def _bits(choice: Candidate) -> str:
    least, most = min(choice.layer_bits, default=0), max(choice.layer_bits, default=0)
    return f"{least}-{most}" if most else str(choice.bits)


def _total_lines(everything: Total) -> list[str]:
    holders = ", ".join(f"{count} at {depth}" for depth, count in everything.holders.items())
    planned = f"{everything.planned} of {everything.devices} devices planned"
    energy = f"{everything.energy_j:.0f} J above idle on the {everything.metered} devices"
    sums = f"{everything.moved_mib:.1f} MiB in all, {everything.longest_round_s:.0f} s at most"
    return [
        f"{planned}, mean expected accuracy {everything.expected_accuracy:.3f}",
        f"a round: {sums}, {energy} whose draw is known",
        f"holders of each exit: {holders}",
    ]


def _fleet_values(members: Sequence[Member], everything: Total) -> dict[str, Any]:
    from dataclasses import asdict

    from coordinator.planner.explain import explained
    from coordinator.planner.fleet import cost_of

    devices = []
    for member in members:
        values: dict[str, Any] = {
            "name": member.name,
            "board": member.profile.board,
            "count": member.count,
            "failure": member.failure,
        }
        if member.decision:
            values["expected_accuracy"] = member.decision.expected_accuracy
            values["plan"] = explained(member.decision).to_json()
            values["cost"] = asdict(cost_of(member.decision))
        devices.append(values)
    return {"devices": devices, "total": asdict(everything)}


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
