"""Start-up time and memory of each command and room, each in a fresh interpreter.

Run it with `make bench`; figures are of the machine it runs on.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

REPEATS = 5
PROBE = """
import json, resource, sys, time
begin = time.perf_counter()
{statement}
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak / 1024, len(sys.modules)]), file=sys.stderr)
"""
STATEMENTS = {
    "python itself": "pass",
    "reefleet --help": "from reefleet.cli import main; main(['--help'])",
    "reefleet devices list": "from reefleet.cli import main; main(['devices', 'list'])",
    "import edge_client.client": "import edge_client.client",
    "import edge_client.inference": "import edge_client.inference, onnxruntime",
    "import coordinator.rounds": "import coordinator.rounds",
    "import export.compile": "import export.compile",
}


def measure(statement: str) -> tuple[float, float, float, int]:
    """Wall seconds, seconds inside, peak MiB and modules loaded; the middle of some runs."""
    runs = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PROBE.format(statement=statement)],
            check=True,
            capture_output=True,
            text=True,
        )
        wall = time.perf_counter() - begin
        runs.append((wall, *json.loads(done.stderr.splitlines()[-1])))
    wall, inside, peak, modules = (statistics.median(column) for column in zip(*runs, strict=True))
    return wall, inside, peak, int(modules)


def main() -> None:
    """Print one line a statement."""
    print(f"{'':<30}{'wall s':>9}{'inside s':>10}{'peak MiB':>10}{'modules':>9}")
    for name, statement in STATEMENTS.items():
        wall, inside, peak, modules = measure(statement)
        print(f"{name:<30}{wall:>9.3f}{inside:>10.3f}{peak:>10.1f}{modules:>9}", flush=True)


if __name__ == "__main__":
    main()
