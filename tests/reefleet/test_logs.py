import io
import json
import logging
from collections.abc import Iterator

import pytest

from reefleet import logs

logger = logging.getLogger("reefleet.test")


@pytest.fixture(autouse=True)
def _root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_stream_that_is_no_terminal_gets_one_json_object_a_record() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logger.info("round closed", extra={"accepted": 5})
    entry = json.loads(stream.getvalue())
    assert (entry["level"], entry["event"], entry["accepted"]) == ("info", "round closed", 5)
    assert entry["time"].endswith("Z")


def test_context_fields_are_in_every_record_inside_and_none_after() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with logs.context(device_id="rpi-4b"), logs.context(round_number=3):
        logger.info("fetched")
    logger.info("idle")
    inside, after = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (inside["device"], inside["round"]) == ("rpi-4b", 3)
    assert not {"device", "round"} & set(after)


def test_a_fact_of_the_record_itself_wins_over_the_context() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with logs.context(device_id="rpi-4b"):
        logger.info("refused", extra={"device": "rpi-5"})
    assert json.loads(stream.getvalue())["device"] == "rpi-5"


def test_an_error_stays_on_one_json_line() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    try:
        int("none")
    except ValueError:
        logger.exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in json.loads(line)["error"]


def test_human_lines_name_level_event_and_facts() -> None:
    stream = io.StringIO()
    logs.configure(as_json=False, stream=stream)
    logger.warning("update dropped", extra={"reason": "late"})
    assert stream.getvalue().split(" ", 1)[1] == "WARNING update dropped reason=late\n"


def test_records_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream)
    logger.info("quiet")
    assert stream.getvalue() == ""
