"""A17: processes killed at random lose no answer, bill none twice and bill nothing that was not given (short form).

The long form, two hundred kills, is in ``tests/prove`` and run by ``make prove``.
"""

from collections.abc import Callable
from pathlib import Path

from nets import scaled

from kills import storm
from servers import Server


def test_kills_at_random_leave_every_ledger_the_same(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server("--gateways", "2")
    server.serve("scale", scaled(tmp_path / "one", 1))
    oracle, killed = storm(server, kills=8, seed=17)
    assert killed.total() == 8
    assert oracle.answers > 200
