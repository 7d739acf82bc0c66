"""What a board does with its bundles, run here and under emulation alike: answers, one step.

Arguments: sub-model bundle, task bundle, images (.npy), output (.npz). Numpy, onnxruntime, LiteRT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from edge_client.inference import ENGINES, EarlyExitModel

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
}


def main(bundle: Path, task: Path, images_file: Path, out: Path) -> None:
    images = np.load(images_file)
    found = {}
    for engine in ENGINES:
        model = EarlyExitModel.open(bundle, engine=engine)
        found[f"{engine} stages"] = np.stack([model.logits(image[None]) for image in images])
        depths = [model.answer(image[None]).exit_depth for image in images]
        found[f"{engine} exits"] = np.array(depths)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    for variant in manifest["variants"]:
        if variant["staged"]:
            continue
        path = str(bundle / variant["files"][0])
        if variant["runtime"] == "litert":
            runner = Interpreter(path, num_threads=1).get_signature_runner("serving_default")
            rows = [runner(image=image[None])["logits"][0] for image in images]
        else:
            session = onnxruntime.InferenceSession(path)
            rows = [session.run(None, {"image": image[None]})[0][0] for image in images]
        found[variant["name"]] = np.stack(rows)
    found |= training_step(task)
    np.savez(out, **found)


def training_step(task: Path) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(task / "train.onnx"))
    rng = np.random.default_rng(3)
    feed = {}
    for node in session.get_inputs():
        if DTYPES[node.type] is np.int64:
            feed[node.name] = rng.integers(0, 2, node.shape)
        elif node.name == "mask":
            feed[node.name] = np.ones(node.shape, np.float32)
        elif node.shape:
            feed[node.name] = np.sort(rng.normal(0, 0.1, node.shape)).astype(np.float32)
        else:
            feed[node.name] = np.array(0.1, np.float32)
    outputs = [node.name for node in session.get_outputs()]
    values = session.run(None, feed)
    return {f"step/{name}": value for name, value in zip(outputs, values, strict=True)}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
