"""The table of rules in compare/README.md names code that exists, tests that say so, and every rule."""

from __future__ import annotations

import ast
import contextlib
import pkgutil
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "lib" / "scorematrix"
LINES = (PACKAGE / "compare" / "README.md").read_text().splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in LINES if re.match(r"\| \d", line)]


def exists(name: str) -> bool:
    """A path below the package, or a dotted name in compare or in the package."""
    if "/" in name:
        return any(PACKAGE.glob(name))
    for home in ("scorematrix.compare", "scorematrix"):
        with contextlib.suppress(ImportError, AttributeError):
            pkgutil.resolve_name(f"{home}.{name}")
            return True
    return False


def test_every_rule_has_a_row() -> None:
    rules = {int(n) for row in ROWS for n in re.findall(r"\d+", row[0])}
    assert sorted(rules) == list(range(1, max(39, *rules) + 1))


def test_every_gate_has_a_rule() -> None:
    """Functions that only build a gate take its name."""
    gates = {
        f"{path.stem}.{node.name}"
        for path in (PACKAGE / "compare").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and re.fullmatch(r"[a-z]\w*_gate", node.name)
        if node.args.args[0].arg != "name"
    }
    named = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[2])}
    assert len(gates) >= 19 and not gates - named, gates - named


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_code_and_test_are_there(row: list[str]) -> None:
    if row[2] == "open":
        return
    names = re.findall(r"`([^`]+)`", row[2])
    assert names and all(exists(name) for name in names), names
    tests = re.findall(r"`(test_\w+)`(?:: ([^;|]+))?", row[3])
    assert tests
    for name, claims in tests:
        (path,) = TESTS.rglob(f"{name}.py")
        words = path.read_text().lower().replace("_", " ")
        for claim in filter(None, claims.strip(" |").split(", ")):
            assert claim.lower().replace("_", " ") in words, f"{name} says nothing of {claim!r}"


def test_made_up_names_are_not_found() -> None:
    assert not exists("gates.no_such_gate") and not exists("no/such.py") and exists("timing.physics_gate")
