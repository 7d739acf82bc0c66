import io

from reefleet.demo.progress import DeviceLine, Moment, View, frame, plain, remaining_s

MOMENT = Moment(
    "round 2/8",
    done=0.25,
    left_s=75,
    devices=(
        DeviceLine("rpi-4b", "training", 4, 8, 0.4321, 0.951),
        DeviceLine("a-device-with-a-very-long-name", "waiting for the coordinator to compile"),
    ),
)


def test_a_terminal_gets_each_frame_in_the_place_of_the_last() -> None:
    stream = io.StringIO()
    view = View(stream, in_place=True)
    view.show(MOMENT)
    height = stream.getvalue().count("\n")
    view.show(MOMENT)
    assert f"\x1b[{height}A\x1b[J" in stream.getvalue()


def test_without_a_terminal_a_line_is_written_when_the_phase_changes() -> None:
    stream = io.StringIO()
    view = View(stream)
    for moment in (MOMENT, MOMENT, Moment("personalizing")):
        view.show(moment)
    first, second = stream.getvalue().splitlines()
    assert "round 2/8" in first
    assert "rpi-4b 95.1%" in first
    assert "personalizing" in second
    assert "\x1b" not in stream.getvalue()


def test_a_frame_shows_depth_bits_loss_accuracy_and_time_left() -> None:
    lines = frame(MOMENT, 61.0)
    assert "1:01 gone, about 1:15 left" in lines[0]
    for figure in ("rpi-4b", " 4 ", " 8 ", "0.432", "95.1%", "training"):
        assert figure in lines[2]


def test_a_frame_fits_a_terminal_of_eighty_columns() -> None:
    assert all(len(line) < 80 for line in frame(MOMENT, 6000.0))


def test_figures_that_are_not_known_yet_are_left_out() -> None:
    assert plain(Moment("pretraining"), 3.0) == "pretraining, 0:03 gone"


def test_a_line_said_stays_above_what_is_redrawn() -> None:
    stream = io.StringIO()
    view = View(stream, in_place=True)
    view.show(MOMENT)
    view.say("done")
    assert stream.getvalue().endswith("\x1b[Jdone\n")


def test_time_left_follows_the_middle_round_and_counts_the_personal_work() -> None:
    assert remaining_s([30.0, 5.0, 6.0], 4) == 6.0 * 5
    assert remaining_s([6.0], 0, personal_left=0.5) == 3.0
    assert remaining_s([], 4) is None
