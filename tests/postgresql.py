"""A PostgreSQL server of the tests' own, from Debian's package: on a socket, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

DEADLINE_S = 60.0
USER = "reefleet"


class Server:
    """A new cluster below a folder of its own; `database` makes databases in it.

    PostgreSQL refuses to run as root: then it runs as the package's user.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rf-pg-", dir="/tmp"))  # a socket's path is short
        self._made = 0
        self._runner: dict[str, Any] = {}
        if os.geteuid() == 0:
            runner = pwd.getpwnam("postgres")
            os.chown(self.root, runner.pw_uid, runner.pw_gid)
            self._runner = {"user": runner.pw_uid, "group": runner.pw_gid, "extra_groups": []}
        # Sorted as people would, so that a forgotten collation shows.
        self._run("initdb", "-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync",
                  "--locale-provider=icu", "--icu-locale=en", "--locale=C.UTF-8")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it; returns when it answers."""
        command = [str(_binary("postgres")), "-D", str(self.root / "data"), "-k", str(self.root)]
        command += ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._runner
            )
        end = time.monotonic() + DEADLINE_S
        pause = threading.Event()
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.root / "log").read_text())
            pause.wait(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it, by default as a restart does: connections are cut, nothing is lost."""
        self._process.send_signal(how)
        self._process.wait(DEADLINE_S)

    def close(self) -> None:
        """Stop it and remove all of it."""
        if self._process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.root, ignore_errors=True)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        name = f"fleet{self._made}"
        self._ask(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{USER}@/{name}?host={self.root}"

    def _answers(self) -> bool:
        import psycopg

        try:
            self._ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _ask(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            host=str(self.root), user=USER, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)  # type: ignore[call-overload]  # a literal of this file

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(_binary(program)), "-D", str(self.root / "data"), *arguments]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, **self._runner, cwd=self.root
        )
        if done.returncode:
            raise RuntimeError(done.stderr)


def _binary(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=_version)
    on_path = shutil.which(name)
    if not found and on_path is None:
        message = f"{name} is missing; run scripts/debian-packages"
        raise RuntimeError(message)
    return found[-1] if found else Path(str(on_path))


def _version(path: Path) -> int:
    return int(path.parts[-3].split(".")[0])
