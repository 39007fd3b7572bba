"""The tests themselves: modules that run together have names of their own, or pytest stops before the first test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("together", [("unit", "conformance", "architecture"), ("acceptance",), ("prove",)])
def test_no_two_modules_that_run_together_have_one_name(together: tuple[str, ...]) -> None:
    names = Counter(path.name for folder in together for path in (TESTS / folder).rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
