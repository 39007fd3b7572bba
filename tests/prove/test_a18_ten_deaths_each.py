"""A18 in its long form: ten deaths at every named point."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nets import scaled

from failpoints.sitecustomize import POINTS
from kills import FAILPOINTS, visit
from servers import Server


@pytest.mark.parametrize("half", [1, 2])
def test_ten_deaths_at_every_point_leave_every_ledger_the_same(
    start_server: Callable[..., Server], tmp_path: Path, half: int, record_property: Callable[[str, object], None]
) -> None:
    folder = tmp_path / "points"
    folder.mkdir()
    server = start_server("--gateways", "2", PYTHONPATH=FAILPOINTS, MOFANG_TEST_FAILPOINTS=str(folder))
    server.serve("scale", scaled(tmp_path / "one", 1))
    oracle = visit(server, sorted(POINTS), folder, rounds=5, seed=half)
    record_property("points", len(POINTS))
    record_property("clients", oracle.told())
