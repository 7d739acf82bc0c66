from dataclasses import replace

import pytest

from reefleet.demo.results import Result, size, table


def a_result(device: str = "rpi-4b") -> Result:
    return Result(
        device=device,
        exit_depth=4,
        bits=8,
        shared_by_exit=(0.9512,),
        personal_accuracy=0.9634,
        early_accuracy=0.9573,
        full_depth_accuracy=0.9634,
        packed_bytes=200_000,
        full_model_bytes=2_800_000,
        mean_exit_depth=1.87,
        early_p50_ms=0.21,
        full_depth_p50_ms=0.48,
        bytes_down=9_000_000,
        bytes_up=3_000_000,
        peak_resident_bytes=150 << 20,
    )


def test_every_figure_of_a_device_is_on_its_line() -> None:
    line = table([a_result()]).splitlines()[-1]
    for figure in (
        "rpi-4b",
        " 4 ",
        "95.1%",
        "96.3%",
        "195 KiB",
        "7.1%",
        "1.87",
        "0.210",
        "0.480",
    ):
        assert figure in line
    assert line.endswith("150 MiB")


def test_the_size_of_the_full_model_stands_in_the_heading() -> None:
    assert "2.7 MiB" in table([a_result()]).splitlines()[1]


def test_columns_line_up_whatever_the_device_is_called() -> None:
    results = [a_result("pi"), replace(a_result("a-device-with-a-long-name"), bits=2)]
    lines = table(results).splitlines()
    assert len({len(line) for line in lines if line.strip("-")[-1:].isalnum()}) <= 2
    assert lines[-1].index("95.1%") == lines[-2].index("95.1%")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (200_000, "195 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
    ],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text
