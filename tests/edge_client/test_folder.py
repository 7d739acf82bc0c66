from __future__ import annotations

from pathlib import Path

from edge_client import folder


def build(target: Path, content: str) -> None:
    (folder.begin(target) / "file").write_text(content)


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for content in ("one", "two"):
        build(target, content)
        folder.publish(target)
        assert (target / "file").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_until_it_is_published_the_old_folder_stays(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    build(target, "one")
    folder.publish(target)
    build(target, "two")
    assert (target / "file").read_text() == "one"


def test_leftovers_of_an_earlier_attempt_are_thrown_away(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    (folder.begin(target) / "stale").write_text("x")
    build(target, "one")
    folder.publish(target)
    assert [path.name for path in target.iterdir()] == ["file"]


def test_a_crash_between_the_renames_is_mended(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    build(target, "one")
    folder.publish(target)
    target.rename(tmp_path / "bundle.previous")
    folder.recover(target)
    assert (target / "file").read_text() == "one"


def test_recovery_leaves_a_sound_folder_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    build(target, "one")
    folder.publish(target)
    (tmp_path / "bundle.previous").mkdir()
    folder.recover(target)
    assert (target / "file").read_text() == "one"
