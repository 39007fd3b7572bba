"""A06, the short form: ten times more than a model can compute, for ten seconds. ``tests/prove`` has the minute."""

from pathlib import Path

from nets import slow

from overload import overload
from servers import Server


def test_ten_times_too_much_is_refused_in_words_and_the_rest_is_in_time(server: Server, tmp_path: Path) -> None:
    server.serve("slow", slow(tmp_path))
    overload(server, seconds=10, late_share=0.02)
