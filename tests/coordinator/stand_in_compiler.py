"""A compiler that writes a valid task bundle of dummy files, so that tests need no torch."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from reefleet.model import ModelContract
from reefleet.plan import SubmodelPlan
from reefleet.wire.manifest import FileEntry, Predict, Program, TaskBundle
from reefleet.wire.manifest_json import to_bytes


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("--contract", "--plan", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--other-plan", action="store_true")
    parser.add_argument("--wrong-digest", action="store_true")
    parser.add_argument("--count", type=Path)
    options = parser.parse_args()
    if options.count:
        with options.count.open("a") as stream:
            stream.write("x")
    if options.fail:
        sys.stderr.write("some progress\nthis plan cannot be compiled\n")
        return 1
    contract = ModelContract.from_json(json.loads(options.contract.read_text()))
    values = json.loads(options.plan.read_text())
    if options.other_plan:
        values["bits"] = values["bits"] % 8 + 1
    plan = SubmodelPlan.from_json(values)
    options.out.mkdir()
    files = {}
    for name in ("train.onnx", "personalize.onnx", "predict.onnx", "stage-0.onnx"):
        data = f"{name} {plan.exit_depth} {plan.bits}\n".encode() * 50_000
        (options.out / name).write_bytes(data)
        digest = "0" * 64 if options.wrong_digest else hashlib.sha256(data).hexdigest()
        files[name] = FileEntry(digest, len(data))
    program = Program("train.onnx", plan.objective, (), (), (), (), ())
    manifest = TaskBundle(
        model=contract.spec,
        plan=plan,
        programs={"federate": program, "personalize": program},
        predict=Predict("predict.onnx", 8, ()),
        stages=(),
        labels=contract.labels,
        preprocessing=contract.preprocessing,
        files=files,
        producer="stand-in",
    )
    data = to_bytes(manifest)
    (options.out / "manifest.json").write_bytes(data)
    sys.stdout.write(json.dumps({"manifest_sha256": hashlib.sha256(data).hexdigest()}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
