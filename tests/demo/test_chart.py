from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from reefleet.demo.chart import draw
from reefleet.demo.results import Result

RESULT = Result(
    device="rpi-4b",
    exit_depth=4,
    bits=8,
    shared_by_exit=(0.9,),
    personal_accuracy=0.9,
    early_accuracy=0.9,
    full_depth_accuracy=0.91,
    packed_bytes=1,
    full_model_bytes=1,
    mean_exit_depth=1.0,
    early_p50_ms=0.2,
    full_depth_p50_ms=0.4,
    bytes_down=1,
    bytes_up=1,
    peak_resident_bytes=1,
)


def test_the_picture_is_a_png_wide_enough_to_read(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"
    draw(path, {"rpi-4b": [(1, 0.5), (2, 0.9)]}, [RESULT])
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= 1200


def test_a_run_without_a_finished_round_still_draws(tmp_path: Path) -> None:
    draw(tmp_path / "empty.png", {}, [])
    assert (tmp_path / "empty.png").stat().st_size > 0
