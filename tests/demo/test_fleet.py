from __future__ import annotations

import sys

from reefleet.demo.fleet import emulated, plain


def test_a_client_may_run_under_its_board_s_limits() -> None:
    arguments = ["edge", "run", "--until-finished"]
    command = emulated("rpi-zero2w", arguments)
    assert command[:4] == ["devices", "emulate", "rpi-zero2w", "--"]
    assert command[4:] == [sys.executable, "-m", "reefleet", *arguments]
    assert plain("rpi-zero2w", arguments) == arguments
