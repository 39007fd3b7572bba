"""A17 in its long form: two hundred kills at random, in four storms on four servers."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nets import scaled

from kills import storm
from servers import Server


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_two_hundred_kills_leave_every_ledger_the_same(
    start_server: Callable[..., Server], tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    server = start_server("--gateways", "2")
    server.serve("scale", scaled(tmp_path / "one", 1))
    oracle, killed = storm(server, kills=50, seed=seed)
    assert killed.total() == 50
    record_property("kills", dict(killed))
    record_property("clients", oracle.told())
