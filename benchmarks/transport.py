"""What the bytes of a round cost the coordinator whatever it does with them: the floor of `rounds`.

    python -m benchmarks.transport --clients 10

Ten clients fetch a model's bytes and send as many back over gRPC and mutual TLS, and nobody looks
at them. Beside it: SHA-256 of what was sent, and writing it to files that are synced.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from benchmarks.processes import used_s
from reefleet.rpc.channel import SERVER_OPTIONS, fleet_channel
from reefleet.rpc.identity import Identity, create_authority, issue_operator, issue_server
from reefleet.rpc.limits import CHUNK_BYTES

MODEL_BYTES = 23_300_000
TURNS = 5
FETCH, SEND = "/floor/Fetch", "/floor/Send"


def serve(ends: Connection, authority: tuple[bytes, bytes]) -> None:
    """Give and take bytes until ended."""
    data = os.urandom(CHUNK_BYTES)
    pieces = [data] * (MODEL_BYTES // CHUNK_BYTES) + [data[: MODEL_BYTES % CHUNK_BYTES]]

    def fetch(_request: bytes, _context: Any) -> Iterator[bytes]:
        yield from pieces

    def send(requests: Iterator[bytes], _context: Any) -> bytes:
        return str(sum(map(len, requests))).encode()

    methods = {
        "Fetch": grpc.unary_stream_rpc_method_handler(fetch),
        "Send": grpc.stream_unary_rpc_method_handler(send),
    }
    server = grpc.server(ThreadPoolExecutor(16), options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor", methods),))
    certificate, key = issue_server(*authority, ["127.0.0.1"])
    mutual = grpc.ssl_server_credentials(
        [(key, certificate)], authority[0], require_client_auth=True
    )
    ends.send(server.add_secure_port("127.0.0.1:0", mutual))
    server.start()
    ends.recv()


def take_part(ends: Connection, address: str, shown: Identity) -> None:
    """Fetch or send each time one is told to."""
    channel = fleet_channel(address, shown)
    data = memoryview(os.urandom(MODEL_BYTES))
    pieces = [bytes(data[at : at + CHUNK_BYTES]) for at in range(0, MODEL_BYTES, CHUNK_BYTES)]
    fetch, send = channel.unary_stream(FETCH), channel.stream_unary(SEND)
    grpc.channel_ready_future(channel).result()
    ends.send("ready")
    while what := ends.recv():
        begun = time.process_time()
        if what == "fetch":
            for _ in fetch(b"?"):
                pass
        else:
            send(iter(pieces))
        ends.send(time.process_time() - begun)


def hashed() -> None:
    """SHA-256 of one client's bytes."""
    hashlib.sha256(bytes(MODEL_BYTES)).digest()


def written(folder: Path) -> None:
    """One client's bytes in a file, synced."""
    piece = bytes(CHUNK_BYTES)
    with (folder / "update").open("wb", 0) as stream:
        for _ in range(0, MODEL_BYTES, CHUNK_BYTES):
            stream.write(piece)
        os.fsync(stream.fileno())


def least(act: Callable[[], None]) -> float:
    """Least processor seconds of several tries."""
    found = []
    for _ in range(TURNS):
        begun = time.process_time()
        act()
        found.append(time.process_time() - begun)
    return min(found)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10)
    count: int = parser.parse_args().clients
    fresh = multiprocessing.get_context("spawn")
    authority = create_authority("floor")
    certificate, key = issue_operator(*authority, "floor")
    shown = Identity(key=key, certificate=certificate, ca=authority[0])
    here, there = fresh.Pipe()
    server = fresh.Process(target=serve, args=(there, authority), daemon=True)
    server.start()
    address = f"127.0.0.1:{here.recv()}"
    lines = []
    for _ in range(count):
        line, other = fresh.Pipe()
        fresh.Process(target=take_part, args=(other, address, shown), daemon=True).start()
        lines.append(line)
    for line in lines:
        line.recv()
    print(f"{count} clients, {MODEL_BYTES / 1e6:.1f} MB each way; seconds, least of {TURNS}")
    print("| | server processor | clients' processor | time |\n| --- | --- | --- | --- |")
    for what in ("fetch", "send"):
        turns = []
        for _ in range(TURNS):
            begun, used = time.monotonic(), used_s(server.pid or 0)
            for line in lines:
                line.send(what)
            clients = sum(line.recv() for line in lines)
            turns.append((used_s(server.pid or 0) - used, clients, time.monotonic() - begun))
        figures = " | ".join(f"{min(column):.2f}" for column in zip(*turns, strict=True))
        print(f"| {what} | {figures} |")
    for line in (*lines, here):
        line.send("")
    with tempfile.TemporaryDirectory() as name:
        on_disk = count * least(lambda: written(Path(name)))
    print(f"| SHA-256 of what was sent | {count * least(hashed):.2f} | | |")
    print(f"| files written and synced | {on_disk:.2f} | | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
