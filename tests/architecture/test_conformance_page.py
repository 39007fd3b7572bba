"""The page that compares us with Triton's checks: every row says what is done, and names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "conformance.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| `")]
SUITES = {"L0_http": 71, "L0_input_validation": 13, "L0_lifecycle": 46, "L0_batcher": 28, "L0_request_cancellation": 16}
"""How many checks each has, and the page with it."""


def test_every_check_is_there_once() -> None:
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    found = {
        part.split()[0]: re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \| ", part, re.M))) for part in parts
    }
    assert {name: len(checks) for name, checks in found.items()} == SUITES
    assert all(len(set(checks)) == len(checks) for checks in found.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split("`")[1])
def test_every_row_names_tests_that_there_are(row: list[str]) -> None:
    _, done, tests = row
    assert len(done) > 2
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for each in named:
        path, _, function = each.partition("::")
        assert (ROOT / path).is_file(), each
        defined = {
            node.name
            for node in ast.parse((ROOT / path).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in defined or (not function and any(name.startswith("test_") for name in defined)), each
