"""`reefleet edge`: be a device of a fleet, or answer an image or a sound from a sub-model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_client.inference import Answer

ENROLL_EXAMPLE = """\
example:
  reefleet edge enroll --server 192.168.1.10:8471 --ca ca.pem --token rf_3f9c... \\
      --state /var/lib/reefleet --board rpi-4b
"""
RUN_EXAMPLE = """\
example:
  reefleet edge run --state /var/lib/reefleet --data digits.npz --until-finished
  reefleet edge run --join invitation.json --state /var/lib/reefleet --data digits.npz

settings: STATE/edge.toml, then REEFLEET_EDGE_... variables, then these flags
"""
INFER_EXAMPLE = """\
examples:
  reefleet edge infer out/rpi-4b seven.png --json
  reefleet edge infer out/rpi-4b seven.png --engine litert
  reefleet edge infer out/keywords clip.wav
"""
SETTINGS_FILE = "edge.toml"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add `edge` and its three commands."""
    parser = subparsers.add_parser(
        "edge",
        help="be a device: enroll, run, infer",
        description="Be a device of a fleet, or answer an image from a sub-model.",
        epilog=RUN_EXAMPLE,
    )
    commands = parser.add_subparsers(dest="edge_command", metavar="COMMAND", required=True)
    _add_enroll(commands)
    _add_run(commands)
    _add_infer(commands)


def run(options: argparse.Namespace) -> int:
    """Do the chosen command."""
    return int(options.edge_run(options))


def _add_enroll(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "enroll",
        help="join a fleet with a one-time token",
        description="Make a key on this device and trade the token for a certificate.",
        epilog=ENROLL_EXAMPLE,
    )
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="enrollment address")
    parser.add_argument("--ca", required=True, type=Path, help="the fleet's CA certificate")
    parser.add_argument("--token", required=True, help="one-time token of this device")
    parser.add_argument("--state", required=True, type=Path, help="folder for identity and state")
    parser.add_argument("--board", default="", help="board id of the catalog (default: probe)")
    parser.add_argument("--force", action="store_true", help="replace an identity that is there")
    parser.set_defaults(edge_run=_enroll)


def _add_run(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "run",
        help="train, push and answer for the fleet",
        description="Work for the coordinator: the resident client of an enrolled device.",
        epilog=RUN_EXAMPLE,
    )
    parser.add_argument("--state", required=True, type=Path, help="folder for identity and state")
    parser.add_argument(
        "--join", type=Path, metavar="FILE", help="enroll first with this invitation, if need be"
    )
    parser.add_argument("--board", default="", help="with --join: board id (default: probe)")
    parser.add_argument("--data", type=Path, help=".npz with this device's images and labels")
    parser.add_argument("--threads", type=int, help="threads of a graph (default: 1)")
    parser.add_argument(
        "--until-finished",
        action="store_const",
        const=True,
        help="end when the run is over, and with an error when it cannot go on",
    )
    parser.set_defaults(edge_run=_run)


def _add_infer(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "infer",
        help="answer one image or sound from a sub-model",
        description="Answer a file, leaving the network at the first confident exit.",
        epilog=INFER_EXAMPLE,
    )
    parser.add_argument("bundle", type=Path, help="folder of a sub-model bundle")
    parser.add_argument("image", type=Path, help="image file; WAV where the model reads sound")
    parser.add_argument("--full-depth", action="store_true", help="ignore the exit thresholds")
    parser.add_argument("--threads", type=int, default=1, help="threads of a stage (default: 1)")
    parser.add_argument(
        "--engine",
        choices=("onnxruntime", "litert"),
        default="onnxruntime",
        help="litert answers from the bundle's .tflite stages (default: onnxruntime)",
    )
    parser.add_argument("--json", action="store_true", help="answer as one JSON object")
    parser.set_defaults(edge_run=_infer)


def _enroll(options: argparse.Namespace) -> int:
    from devices import catalog
    from edge_client.enrollment import Request, enroll, read_ca

    if options.board:
        catalog.find(options.board)  # a misspelt board should fail here, not in the planner
    ca = read_ca(options.ca)
    request = Request(options.server, ca, options.token, options.board)
    enrolled = enroll(request, options.state, force=options.force)
    facts = {"device": enrolled.device_id, "fleet": enrolled.address, "state": str(options.state)}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


def _run(options: argparse.Namespace) -> int:
    from edge_client.config import ENV_PREFIX, EdgeConfig
    from edge_client.start import serve
    from reefleet.settings import load

    if options.join:
        _join(options)

    file = options.state / SETTINGS_FILE
    flags = {
        "state": options.state,
        "data": options.data,
        "threads": options.threads,
        "until_finished": options.until_finished,
    }
    serve(load(EdgeConfig, file if file.exists() else None, ENV_PREFIX, flags))
    return 0


def _join(options: argparse.Namespace) -> None:
    from devices import catalog
    from edge_client.enrollment import join
    from reefleet import invitation

    if options.board:
        catalog.find(options.board)
    join(invitation.read(options.join), options.board, options.state)


def _infer(options: argparse.Namespace) -> int:
    from edge_client import image as pictures
    from edge_client import sound
    from edge_client.inference import EarlyExitModel

    model = EarlyExitModel.open(options.bundle, options.threads, options.engine)
    wanted = model.manifest.preprocessing
    image = (pictures if wanted.sound is None else sound).read(options.image, wanted)
    model.answer(image)  # the first run allocates; its time says nothing about the next
    answer = model.answer(image, full_depth=options.full_depth)
    sys.stdout.write(_told(answer, model.exit_depths[-1], as_json=options.json) + "\n")
    return 0


def _told(answer: Answer, full_depth: int, *, as_json: bool) -> str:
    if as_json:
        facts = {
            "label": answer.label,
            "class": answer.class_index,
            "confidence": round(answer.confidence, 6),
            "exit_depth": answer.exit_depth,
            "full_depth": full_depth,
            "milliseconds": round(answer.milliseconds, 3),
        }
        return json.dumps(facts)
    return (
        f"{answer.label}  confidence {answer.confidence:.3f}  "
        f"exit after {answer.exit_depth} of {full_depth} blocks  {answer.milliseconds:.2f} ms"
    )
