import io
from pathlib import Path

import pytest

from reefleet.demo import run
from reefleet.errors import RuntimeUnavailable


def test_a_missing_wheel_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "WHEELS", ("no_such_wheel",))
    with pytest.raises(RuntimeUnavailable, match=r"no_such_wheel.*reefleet\[all\]"):
        run.play(run.Demo(out=tmp_path / "out"), io.StringIO())
    assert not (tmp_path / "out").exists()


def test_only_what_an_earlier_demo_left_is_cleared(tmp_path: Path) -> None:
    for name in ("rpi-4b", "digits", ".run", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("", encoding="utf-8")
    (tmp_path / "accuracy.png").write_text("", encoding="utf-8")
    run._fresh(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".run", "mine"}
    assert not list((tmp_path / ".run").iterdir())
