"""Flower's own gRPC stream with clients that do not train; run by `peers` in Flower's environment.

python flower_stream.py server PORT CLIENTS ROUNDS
python flower_stream.py client PORT NUMBER
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import flwr as fl
import numpy as np

WIDTH, DEPTH, CLASSES = 192, 12, 1000
MESSAGE_BYTES = 512 << 20


def shapes() -> list[tuple[int, ...]]:
    """DeiT-Ti: 5,717,416 weights in 152 tensors."""
    block = [
        (WIDTH,), (WIDTH,), (3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,),
        (WIDTH,), (WIDTH,), (4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,),
    ]  # fmt: skip
    ends = [
        (1, 1, WIDTH), (1, 197, WIDTH), (WIDTH, 3, 16, 16), (WIDTH,),
        (WIDTH,), (WIDTH,), (CLASSES, WIDTH), (CLASSES,),
    ]  # fmt: skip
    return ends + block * DEPTH


def weights(seed: int) -> list[np.ndarray[Any, Any]]:
    """Noise of those shapes."""
    rng = np.random.default_rng(seed)
    return [rng.random(shape, np.float32) for shape in shapes()]


class Untrained(fl.client.NumPyClient):
    """Moves each tensor by a constant of its own."""

    def __init__(self, number: int) -> None:
        self.shift = np.float32(1e-3 * (1 + number))

    def fit(self, parameters: Any, config: Any) -> Any:  # noqa: ARG002  # Flower's signature
        """What Flower calls."""
        moved = [value + self.shift * np.float32(1 + n % 5) for n, value in enumerate(parameters)]
        return moved, 100, {}


class Timed(fl.server.strategy.FedAvg):
    """FedAvg as it is, with a line on stdout at the end of each round."""

    def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> Any:
        """What Flower calls."""
        found = super().aggregate_fit(server_round, results, failures)
        line = {"round": server_round, "at": time.monotonic(), "results": len(results)}
        print(json.dumps(line), flush=True)
        return found


def serve(port: str, clients: int, rounds: int) -> None:
    """Run the rounds."""
    strategy = Timed(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=clients,
        min_available_clients=clients,
        initial_parameters=fl.common.ndarrays_to_parameters(weights(0)),
    )
    fl.server.start_server(
        server_address=f"127.0.0.1:{port}",
        config=fl.server.ServerConfig(num_rounds=rounds),
        strategy=strategy,
        grpc_max_message_length=MESSAGE_BYTES,
    )


def work(port: str, number: int) -> None:
    """Take part."""
    fl.client.start_client(
        server_address=f"127.0.0.1:{port}",
        client=Untrained(number).to_client(),
        grpc_max_message_length=MESSAGE_BYTES,
        insecure=True,
    )


if __name__ == "__main__":
    role, at, *rest = sys.argv[1:]
    count = sum(math.prod(shape) for shape in shapes())
    print(json.dumps({"parameters": count, "tensors": len(shapes())}), flush=True)
    if role == "server":
        serve(at, int(rest[0]), int(rest[1]))
    else:
        work(at, int(rest[0]))
