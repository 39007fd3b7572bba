"""A23 in its long form: a thousand requests that are cancelled, time out, or die with one of twelve killed gateways."""

from collections.abc import Callable
from pathlib import Path

from nets import slow

from leaks import leaks
from servers import Server


def test_a_thousand_broken_requests_leave_nothing_reserved(
    start_server: Callable[..., Server], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    server = start_server("--gateways", "2")
    server.serve("slow", slow(tmp_path))
    outcomes = leaks(server, requests=1000, kills=12)
    assert outcomes["ok"]
    assert outcomes.total() - outcomes["ok"] > 100  # or it was no storm
    record_property("outcomes", dict(outcomes.most_common()))
