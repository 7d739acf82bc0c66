"""`reefleet plan`: which sub-model a board would get, and why not the next better one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reefleet.cli.inputs import read_contract
from reefleet.model import ModelSpec

if TYPE_CHECKING:
    from reefleet.plan import SubmodelPlan

EPILOG = """\
examples:
  reefleet plan --device rpi-4b --latency-ms 150
  reefleet plan --device rpi-zero2w --memory-share 0.8 --json
  reefleet plan --device jetson-orin-nano --contract contract.json

Without --contract the model is a 12-block DeiT-Ti at 224 pixels with exits at 3, 6, 9 and 12.
"""

DEIT_TINY = ModelSpec(
    image_size=224,
    patch_size=16,
    channels=3,
    width=192,
    heads=3,
    depth=12,
    classes=100,
    exits=(3, 6, 9, 12),
)

# Flags that set the budget field of the same name, with their unit.
_BUDGET = {
    "latency_ms": ("X", "bound on one answer at full depth, in milliseconds"),
    "memory_share": ("S", "share of the free memory that training may take"),
    "model_share": ("S", "share of the free memory that the packed sub-model may take"),
    "round_deadline_s": ("T", "bound on download, training and upload of one round, in seconds"),
}


def add_parser(subparsers: Any) -> None:
    """Add `plan`."""
    parser = subparsers.add_parser(
        "plan",
        help="show which sub-model a board would get, and why",
        description="Plan a sub-model for a board of the catalog under a budget.",
        epilog=EPILOG,
    )
    parser.add_argument("--device", required=True, metavar="BOARD", help="id or alias of the board")
    parser.add_argument("--memory-mib", type=int, default=0, metavar="N", help="its memory size")
    parser.add_argument("--samples", type=int, metavar="N", help="training samples it holds")
    parser.add_argument("--contract", type=Path, metavar="FILE", help="model contract (JSON)")
    for name, (metavar, text) in _BUDGET.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, dest=name, type=float, metavar=metavar, help=text)
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")


def run(options: argparse.Namespace) -> int:
    """Print the plan; raises NoFeasiblePlan where nothing fits."""
    from coordinator.planner import Budget, plan_for
    from devices import catalog
    from reefleet import settings

    spec = _spec(options.contract)
    profile = catalog.reference_profile(
        options.device, nominal_mib=options.memory_mib, train_samples=options.samples
    )
    given = {name: getattr(options, name) for name in _BUDGET}
    plan = plan_for(profile, spec, settings.load(Budget, flags=given))
    if options.json:
        sys.stdout.write(json.dumps({"board": options.device, **plan.to_json()}, indent=2) + "\n")
    else:
        sys.stdout.write(_text(options.device, spec, plan))
    return 0


def _spec(path: Path | None) -> ModelSpec:
    return DEIT_TINY if path is None else read_contract(path).spec


def _text(board: str, spec: ModelSpec, plan: SubmodelPlan) -> str:
    from reefleet.model import packed_bytes, parameter_count

    packed = packed_bytes(spec, plan.exit_depth, plan.bits)
    full = 4 * parameter_count(spec)
    rows = [
        ("board", board),
        ("exit depth", f"{plan.exit_depth} of {spec.depth}"),
        ("bits", str(plan.bits)),
        ("batch", str(plan.batch_size)),
        ("models", str(plan.models)),
        ("codec", plan.codec),
        ("packed", f"{packed / 1e6:.2f} MB of {full / 1e6:.2f} MB float32, all blocks"),
    ]
    lines = [f"{name:<12}{value}" for name, value in rows]
    return "\n".join([*lines, "", *plan.why]) + "\n"
