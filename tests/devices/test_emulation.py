"""Emulated boards: limits that bite, exit codes passed on, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devices import catalog, emulation
from devices.emulation import Means, OutOfBoardMemory, Wanted, described, means, run, wanted
from devices.reaper import Leftovers, clear
from reefleet.errors import RuntimeUnavailable

ABLE = means()
needs_groups = pytest.mark.skipif(ABLE.memory is None, reason="no control group can be made here")
needs_link = pytest.mark.skipif(not ABLE.link, reason="network namespaces are not permitted here")
GREEDY = [sys.executable, "-c", "held = bytearray(200 << 20)"]
MODEST = [sys.executable, "-c", "import sys; sys.exit(7)"]
BOARD = Wanted("rpi-zero2w", 64)


def made_by(pid: int) -> list[Path]:
    """What an emulation of this process still has lying about."""
    groups = [folder / f"reefleet-{pid}" for folder in (ABLE.memory, ABLE.cpu) if folder]
    links = [Path("/sys/class/net") / f"rf{pid}", Path("/run/netns") / f"rf{pid}"]
    return [path for path in (*groups, *links) if path.exists()]


def test_a_board_s_figures_are_what_is_wanted() -> None:
    wish = wanted(catalog.find("rpi-zero2w"), 1.0, 10.0, link=True)
    assert wish == Wanted("rpi-zero2w", 329, 0.1, 35.0)
    assert wanted(catalog.find("rpi-4b"), None, 10.0, link=False).cpus is None


def test_what_cannot_be_done_here_is_said() -> None:
    wish = Wanted("rpi-zero2w", 329, 0.1, 35.0)
    text = "\n".join(described(wish, Means()))
    assert "1353 MiB of address space a process, not resident memory" in text
    assert "processor: not emulated, no control group" in text
    assert "link: not emulated, network namespaces are not permitted" in text
    full = "\n".join(described(wish, Means(Path("m"), Path("c"), link=True)))
    assert "329 MiB by a control group" in full
    assert "time dilated 10.0 times" in full
    assert "35 Mbit/s each way" in full


def test_a_machine_without_groups_has_no_means(tmp_path: Path) -> None:
    found = means(tmp_path)
    assert (found.memory, found.cpu) == (None, None)


def test_the_command_s_exit_code_is_given_back() -> None:
    assert run(MODEST, BOARD, Means()).code == 7


def test_without_groups_address_space_is_bounded() -> None:
    hungry = [sys.executable, "-c", f"held = bytearray({64 + emulation.MAPPED_MIB + 50} << 20)"]
    assert run(hungry, BOARD, Means(), {"PYTHONWARNINGS": "ignore"}).code == 1


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeUnavailable, match="no-such-command"):
        run(["no-such-command"], BOARD, Means())


@needs_groups
def test_a_group_ends_what_takes_more_than_the_board_has() -> None:
    with pytest.raises(OutOfBoardMemory, match="rpi-zero2w has 64 MiB"):
        run(GREEDY, BOARD, Means(memory=ABLE.memory))
    assert made_by(os.getpid()) == []


@needs_groups
def test_what_fits_runs_and_its_peak_is_told() -> None:
    outcome = run(GREEDY, Wanted("rpi-zero2w", 329), Means(memory=ABLE.memory))
    assert outcome.code == 0
    assert outcome.peak_mib is not None
    assert 200 <= outcome.peak_mib <= 329


@pytest.mark.skipif(ABLE.cpu is None, reason="no control group can be made here")
def test_a_quota_dilates_time() -> None:
    busy = "import time; b = time.perf_counter(); e = time.process_time() + 0.1\n"
    busy += "while time.process_time() < e: pass\n"
    busy += "print(time.perf_counter() - b)"
    text = f"import sys, io\n{busy.replace('print(', 'open(sys.argv[1], chr(119)).write(str(')})"
    out = Path(os.environ.get("TMPDIR", "/tmp")) / f"quota-{os.getpid()}"
    try:
        run([sys.executable, "-c", text, str(out)], Wanted("x", 999, 0.2), Means(cpu=ABLE.cpu))
        assert float(out.read_text()) > 0.3
    finally:
        out.unlink(missing_ok=True)


@needs_link
def test_the_link_has_the_board_s_rate_and_reaches_this_machine() -> None:
    listener = (
        "import os, socket, sys, time\n"
        "with socket.create_connection((os.environ['REEFLEET_HOST'], int(sys.argv[1]))) as s:\n"
        "    s.sendall(bytes(1 << 20)); s.shutdown(socket.SHUT_WR); s.recv(1)\n"
    )
    import socket
    import threading

    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104  # the namespace is outside
        server.settimeout(60)
        port = server.getsockname()[1]

        def drain() -> None:
            with server.accept()[0] as peer:
                while peer.recv(1 << 16):
                    pass

        thread = threading.Thread(target=drain)
        thread.start()
        begin = time.monotonic()
        command = [sys.executable, "-c", listener, str(port)]
        code = run(command, Wanted("x", 999, None, 20.0), Means(link=True)).code
        seconds = time.monotonic() - begin
        thread.join()
    assert code == 0
    assert seconds > 8 * (1 << 20) / 20e6 * 0.9
    assert made_by(os.getpid()) == []


@needs_groups
def test_nothing_stays_when_the_emulation_itself_is_killed() -> None:
    text = (
        "from devices.emulation import *\n"
        "m = means()\n"
        "run(['sleep', '60'], Wanted('x', 64, 0.5, 10.0), m)\n"
    )
    with subprocess.Popen([sys.executable, "-c", text]) as emulator:
        end = time.monotonic() + 20
        while len(made_by(emulator.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(made_by(emulator.pid)) >= 2
        emulator.send_signal(signal.SIGKILL)
        emulator.wait()
        while made_by(emulator.pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert made_by(emulator.pid) == []


def test_clearing_twice_does_nothing(tmp_path: Path) -> None:
    clear(Leftovers({"memory": tmp_path / "absent"}))
    clear(Leftovers({"memory": tmp_path / "absent"}))
