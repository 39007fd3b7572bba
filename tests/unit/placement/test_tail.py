"""Stop strings, however they are cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.placement.tail import Tail

words = st.text("ab", min_size=1, max_size=4)


@given(st.lists(st.text("abc", max_size=5), max_size=8), st.lists(words, max_size=3))
def test_pieces_say_what_the_whole_would(pieces: list[str], stops: list[str]) -> None:
    tail, said = Tail(tuple(stops)), ""
    for piece in pieces:
        said += tail.feed(piece)
        if tail.met:
            break
    else:
        said += tail.flush()
    whole = "".join(pieces)
    assert all(stop not in said for stop in stops)
    assert whole.startswith(said)
    assert bool(tail.met) == any(stop in whole for stop in stops)
    if tail.met:
        assert any(whole[len(said) :].startswith(stop) for stop in stops)
    else:
        assert said == whole


def test_nothing_is_held_back_that_cannot_become_a_stop() -> None:
    tail = Tail(("END",))
    assert [tail.feed(piece) for piece in ("a E", "N", "x", "EN", "D more")] == ["a ", "", "ENx", "", ""]
    assert tail.met
