"""Pieces that wait for a slow reader are joined: nothing of what they say or count is lost."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.generation import Chosen, Delta
from mofang.run.serve.pieces import Piece, merged

deltas = st.builds(
    Delta,
    stream=st.just(1),
    text=st.text(max_size=5),
    tokens=st.integers(0, 5),
    chosen=st.lists(st.builds(Chosen, text=st.binary(max_size=3), logprob=st.floats(-9, 0)), max_size=2).map(tuple),
    cached_tokens=st.integers(0, 5),
    compute_us=st.integers(0, 99),
    queue_us=st.integers(0, 99),
    input_tokens=st.integers(-5, 5),
)


def told(pieces: Sequence[Piece], index: int) -> tuple[object, ...]:
    mine = [delta for number, delta in pieces if number == index]
    return (
        "".join(delta.text for delta in mine),
        [each for delta in mine for each in delta.chosen],
        *(sum(getattr(delta, name) for delta in mine) for name in ("tokens", "cached_tokens", "compute_us",
                                                                    "input_tokens")),
        max((delta.queue_us for delta in mine), default=0),
        mine[-1].finish if mine else "",
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 2), deltas), max_size=20), st.sampled_from(["", "stop", "length"]))
def test_joined_pieces_say_and_count_the_same(pieces: list[Piece], finish: str) -> None:
    pieces = [*pieces, (0, Delta(1, "end", 1, finish, stopped_at="end" if finish == "stop" else ""))]  # type: ignore[arg-type]
    joined = merged(pieces)
    assert sorted(index for index, _ in joined) == sorted({index for index, _ in pieces})
    for index in range(3):
        assert told(joined, index) == told(pieces, index)
    assert {index: delta.stopped_at for index, delta in joined}[0] == ("end" if finish == "stop" else "")
