"""A09, the short form: two hundred clients that send a byte now and then are closed in bounded time, and nothing that
others ask fails. How long these wait is measured in ``tests/prove``."""

from pathlib import Path

from loads import Load
from nets import scaled

from dawdling import dawdle
from servers import Server


def test_dawdlers_are_closed_and_others_are_served(server: Server, tmp_path: Path) -> None:
    server.serve("scale", scaled(tmp_path, 1))
    with Load(server, "scale", clients=4) as load:
        load.wait_for_more(50)
        dawdle(server, connections=200)
    assert not load.failures
    assert load.wrong == 0
    assert sum(load.answers.values()) > 500
