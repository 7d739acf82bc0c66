import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = ["Removed", "Deprecated", "Added", "Changed", "Fixed"]


def headings(level: int) -> list[str]:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(rf"^{'#' * level} (.+)$", text, re.MULTILINE)


def test_the_first_section_is_unreleased() -> None:
    assert headings(2)[0] == "[Unreleased]"


def test_every_other_section_is_a_version_with_its_date() -> None:
    for heading in headings(2)[1:]:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", heading), heading


def test_changes_are_sorted_under_known_kinds() -> None:
    assert set(headings(3)) <= set(KINDS)
