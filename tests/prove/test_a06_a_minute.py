"""A06 in its long form: ten times more than a model can compute, for a minute, and nothing that is taken is late."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nets import slow

from overload import overload, quantile
from servers import Server


@pytest.mark.timeout(300)
def test_a_minute_of_ten_times_too_much(
    start_server: Callable[..., Server], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    server = start_server()
    server.serve("slow", slow(tmp_path))
    account, deepest = overload(server, seconds=60)
    record_property("outcomes", dict(account.outcomes))
    record_property("p99 of answers, ms", round(1e3 * quantile(account.accepted, 0.99)))
    record_property("median of refusals, ms", round(1e3 * quantile(account.refused, 0.5), 1))
    record_property("waiting at once", deepest)
