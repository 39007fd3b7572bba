"""A18: a process that dies at any named point between request and ledger loses and doubles nothing (short form).

The long form, ten deaths at each point, is in ``tests/prove`` and run by ``make prove``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from nets import scaled

from failpoints.sitecustomize import POINTS
from kills import FAILPOINTS, visit
from servers import Server


@pytest.mark.timeout(400)
def test_a_death_at_every_point_leaves_every_ledger_the_same(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    assert len(POINTS) >= 12
    folder = tmp_path / "points"
    folder.mkdir()
    server = start_server("--gateways", "2", PYTHONPATH=FAILPOINTS, MOFANG_TEST_FAILPOINTS=str(folder))
    server.serve("scale", scaled(tmp_path / "one", 1))
    oracle = visit(server, sorted(POINTS), folder, rounds=1, seed=18)
    assert oracle.answers > 200
