"""Flower's current path, SuperLink with SuperNodes and ClientApps, timed from outside.

The app is written to a folder of its own and run by Flower's commands, insecure, on loopback; each
client's update is the model moved by a constant of its own, as in `flower_stream`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

STREAM = Path(__file__).with_name("flower_stream.py")
NO_PACKAGES = "--disable-runtime-dependency-installation"
START_S, RUN_S = 120.0, 3600.0
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "untrained"
version = "1.0.0"
license = { text = "Apache-2.0" }
dependencies = []
[tool.flwr.app]
publisher = "nobody"
[tool.flwr.app.components]
serverapp = "untrained.server:app"
clientapp = "untrained.client:app"
[tool.flwr.app.config]
"""
SERVER = """\
import json, os, time
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from untrained.shapes import weights
app = ServerApp()

class Timed(FedAvg):
    def aggregate_train(self, server_round, replies):
        found = super().aggregate_train(server_round, replies)
        with open({marks!r}, "a") as stream:
            stream.write(json.dumps(dict(round=server_round, at=time.monotonic())) + "\\n")
        return found

@app.main()
def main(grid, context):
    Timed(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes={clients},
          min_available_nodes={clients}).start(
        grid=grid, initial_arrays=ArrayRecord(weights(0)), num_rounds={rounds})
"""
CLIENT = """\
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    shift = np.float32(1e-3 * (1 + context.node_config.get("number", 0)))
    arrays = message.content["arrays"].to_numpy_ndarrays()
    moved = [value + shift * np.float32(1 + n % 5) for n, value in enumerate(arrays)]
    metrics = MetricRecord({"num-examples": 100})
    content = RecordDict(dict(arrays=ArrayRecord(moved), metrics=metrics))
    return Message(content=content, reply_to=message)
"""
SETTINGS = """\
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:{port}"
insecure = true
"""


def superlink(python: Path, clients: int, rounds: int) -> float:
    """Median seconds a round; raises RuntimeError where Flower does not come to its end."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name)
        marks = _project(root, clients, rounds)
        port = _free_port()
        home = {**os.environ, "FLWR_HOME": str(root / "home"), "PATH": _path(python)}
        (root / "home").mkdir()
        (root / "home" / "config.toml").write_text(SETTINGS.format(port=port))
        log = stack.enter_context((root / "log").open("ab"))

        def start(*command: str) -> None:
            command = (str(python.parent / command[0]), *command[1:])
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=home, start_new_session=True
            )
            stack.callback(_end, process)

        start("flower-superlink", "--insecure", "--port", str(port), NO_PACKAGES)
        _wait_for(port)
        for number in range(clients):
            node = ("--superlink", f"127.0.0.1:{port}", "--node-config", f"number={number}")
            start("flower-supernode", "--insecure", *node, "--port", str(_free_port()))
        done = subprocess.run(
            [python.parent / "flwr", "run", str(root / "app"), "here", "--stream"],
            check=False,
            capture_output=True,
            env=home,
            timeout=RUN_S,
        )
        at = _marks(marks)
        if len(at) < rounds:
            said = (root / "log").read_text(errors="replace")[-3000:]
            message = f"{done.stdout.decode()[-3000:]}\n{done.stderr.decode()[-1000:]}\n{said}"
            raise RuntimeError(message)
        return float(statistics.median(np.diff(at)))


def _project(root: Path, clients: int, rounds: int) -> Path:
    package, marks = root / "app" / "untrained", root / "marks"
    package.mkdir(parents=True)
    (root / "app" / "pyproject.toml").write_text(PROJECT)
    server = SERVER.format(marks=str(marks), clients=clients, rounds=rounds)
    files = {"__init__": "", "server": server, "client": CLIENT}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    shutil.copy(STREAM, package / "shapes.py")
    return marks


def _marks(path: Path) -> list[float]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["at"] for line in lines]


def _path(python: Path) -> str:
    return f"{python.parent}{os.pathsep}{os.environ['PATH']}"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, 9)
    process.wait()


def _wait_for(port: int) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
