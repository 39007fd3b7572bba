"""A09 in its long form: five hundred clients that send a byte a second are closed within 15 s, and the p99 of others is
at most twice what it is without them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from asking import address, slow_request
from nets import scaled, slow

from dawdling import MOST_SECONDS, dawdle
from flooding import Flood, flooding
from overload import quantile
from servers import Server

OTHERS, PAUSE_SECONDS = 8, 0.04  # connections, and how often each asks: 200 requests a second
TURNS = 2  # quiet and dawdled take turns: the speed of a machine changes
MOST = 2.0  # times the p99 of a quiet server


@pytest.mark.timeout(300)
def test_five_hundred_dawdlers_are_closed_and_others_wait_no_longer(
    start_server: Callable[..., Server], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path / "scale", 1))
    server.serve("slow", slow(tmp_path / "slow"))
    request = slow_request(server.consumer(), 1)
    quiet: list[float] = []
    dawdled: list[float] = []
    lived = []
    for _ in range(TURNS):
        with flooding(address(server), request, OTHERS, PAUSE_SECONDS) as flood:
            time.sleep(MOST_SECONDS)
        quiet += waits(flood)
        with flooding(address(server), request, OTHERS, PAUSE_SECONDS) as flood:
            lived.append(dawdle(server, connections=500))
        dawdled += waits(flood)
    found = {name: quantile(each, 0.99) for name, each in (("quiet", quiet), ("dawdled", dawdled))}
    record_property("p99 of the others, ms", {name: round(1e3 * each, 2) for name, each in found.items()})
    record_property("the last was closed after, s", round(max(lived), 1))
    record_property("others asked", len(quiet) + len(dawdled))
    assert found["dawdled"] <= MOST * found["quiet"], found


def waits(flood: Flood) -> list[float]:
    """Return how long each answer took; all are good, and none is missing but what was asked last."""
    assert set(flood.answers) == {"200"}, flood.answers
    assert flood.asked - OTHERS <= flood.answers["200"] == len(flood.waits)
    return flood.waits
