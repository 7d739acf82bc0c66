"""docs/errors.md: every class and every refusal, each with something to type."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reefleet import errors
from reefleet.cli import main
from reefleet.errors import ReefleetError
from reefleet.rpc import status

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
CLASSES = sorted(
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ReefleetError)
)
PROGRAMS = "reefleet|pip|journalctl|systemctl|timedatectl|ls|df|cat|python"
COMMAND = re.compile(rf"(?:^|`)(?:{PROGRAMS}) ", re.MULTILINE)
OURS = sorted(set(re.findall(r"(?:^|`)reefleet ([a-z][^`#\n]*)", TEXT, re.MULTILINE)))
REFUSALS = {"Rejected", "NotEnrolled", "PayloadTooLarge", "StoreFull"}


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_a_section_with_something_to_type(name: str) -> None:
    assert COMMAND.search(SECTIONS[name])


def test_no_section_is_of_a_class_that_is_gone() -> None:
    assert set(SECTIONS) == set(CLASSES)


@pytest.mark.parametrize(("mark", "cause"), status._TLS_CAUSES)
def test_each_cause_of_a_broken_handshake_is_explained(mark: str, cause: str) -> None:
    assert cause.split(", but", maxsplit=1)[0] in PAGE, mark


def pieces(node: ast.expr | None) -> list[str]:
    """The constant pieces of a message."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [str(v.value) for v in node.values if isinstance(v, ast.Constant)]
    return []


def refusals() -> Iterator[tuple[str, int, str]]:
    """File, line and longest constant piece of the message of each refusal that is raised."""
    for package in ("coordinator", "edge_client"):
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for body in (getattr(node, "body", None) for node in ast.walk(tree)):
                for line, text in raised_in(body if isinstance(body, list) else []):
                    yield str(file.relative_to(ROOT)), line, text


def raised_in(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    said: ast.expr | None = None
    for statement in body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "msg":
            said = statement.value
        raised = statement.exc if isinstance(statement, ast.Raise) else None
        is_one = isinstance(raised, ast.Call) and ast.unparse(raised.func) in REFUSALS
        if is_one and (found := pieces(said)):
            yield statement.lineno, max(found, key=len)


def test_each_refusal_is_on_the_page() -> None:
    found = list(refusals())
    assert len(found) > 25
    plain = PAGE.replace("`", "")
    missing = [
        (file, line, text)
        for file, line, text in found
        if max(re.split(r"[;,:`]", text), key=len).strip() not in plain
    ]
    assert missing == []


@pytest.mark.parametrize("line", OURS)
def test_each_command_on_the_page_can_be_typed(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = list(itertools.takewhile(re.compile(r"[a-z][a-z-]*$").match, line.split()))
    assert main([*words, "--help"]) == 0
    known = capsys.readouterr().out
    assert [option for option in re.findall(r"--[a-z-]+", line) if option not in known] == []
