"""What the choices of an answer say, piece by piece; how pieces nobody has read yet are joined, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mofang.base.domain.generation import Delta

Piece = tuple[int, Delta]
"""The number of a choice, from 0, and what was added to it."""


@dataclass(slots=True)
class Tally:
    """What a request has used so far, as far as it was handed out."""

    input_tokens: int = 0
    cached_tokens: int = 0  # among them
    output_tokens: int = 0
    compute_us: int = 0
    output_bytes: int = 0
    first_at: float = 0.0  # time.monotonic() of the first token
    last_at: float = 0.0
    queue_us: int = 0
    estimated: set[int] = field(default_factory=set)  # choices whose tokens the engine did not count


class Speech(NamedTuple):
    """How an answer came, for metrics. Seconds are None where it was too short to have them."""

    first_seconds: float | None  # from the parsed request to the first token
    token_seconds: float | None  # between two tokens of a choice, on average
    queue_seconds: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int


def merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Join what was added to each choice: the same text, tokens and counts, in as many pieces as there are choices."""
    found: dict[int, list[Delta]] = {}
    for index, delta in pieces:
        found.setdefault(index, []).append(delta)
    return [(index, _joined(deltas)) for index, deltas in found.items()]


def _joined(deltas: Sequence[Delta]) -> Delta:
    last = deltas[-1]
    return Delta(
        last.stream,
        "".join([delta.text for delta in deltas]),
        sum(delta.tokens for delta in deltas),
        last.finish,
        tuple(each for delta in deltas for each in delta.chosen),
        sum(delta.cached_tokens for delta in deltas),
        sum(delta.compute_us for delta in deltas),
        max(delta.queue_us for delta in deltas),
        last.stopped_at,
        sum(delta.input_tokens for delta in deltas),
        last.estimated,
    )
