"""How fast and how much at once: a token bucket, and the bounds of one key, project or tenant. Pure; the caller brings
the clock.

A gateway keeps these for itself, in memory, so that admission asks nobody. Where several gateways serve, each has its
share of a limit. All arithmetic is on integers: nothing drifts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mofang.base.domain.access import AccessLimits
from mofang.base.domain.errors import ConcurrencyLimited, PayloadLimited, RateLimited

MINUTE_NS = 60_000_000_000
SECOND_NS = 1_000_000_000
_LEARN = 0.2  # of the difference, what requests usually use follows what one used


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands: ``remaining`` of ``limit`` units a minute, all of them back after ``reset_ns``."""

    limit: int
    remaining: int
    reset_ns: int


class Standings(NamedTuple):
    """Where a caller stands with the tightest of her limits on requests, and of those on tokens; None: no limit."""

    requests: Standing | None = None
    tokens: Standing | None = None


class Bucket:
    """Holds a minute's worth of units and fills at ``per_minute`` divided by ``share``; one unit at least fits in.

    Counted in parts, of which a nanosecond brings ``per_minute`` and a unit is ``share`` minutes of nanoseconds.
    """

    __slots__ = ("_at_ns", "_capacity", "_unit", "_used", "per_minute")

    def __init__(self, per_minute: int, share: int = 1) -> None:
        self.per_minute = per_minute
        self._unit = share * MINUTE_NS
        self._capacity = max(per_minute * MINUTE_NS, self._unit)
        self._used = 0
        self._at_ns = 0

    @property
    def size(self) -> int:
        """Units in a full bucket: what one request can have at most."""
        return self._capacity // self._unit

    def wait_ns(self, units: int, now_ns: int) -> int:
        """Return how long until ``units`` are there: 0 if they are. There never are more than :attr:`size`."""
        lacking = self._used_at(now_ns) + units * self._unit - self._capacity
        return -(-lacking // self.per_minute) if lacking > 0 else 0

    def take(self, units: int, now_ns: int) -> None:
        """Take ``units`` out, which :meth:`wait_ns` has just said are there."""
        self._used = self._used_at(now_ns) + units * self._unit
        self._at_ns = max(self._at_ns, now_ns)

    def correct(self, units: int, now_ns: int) -> None:
        """Take out ``units`` more than was thought, there or not, or put some back (less than none)."""
        self._used = max(0, self._used_at(now_ns) + units * self._unit)
        self._at_ns = max(self._at_ns, now_ns)

    def standing(self, now_ns: int) -> Standing:
        """Return what is left and how long until the bucket is full."""
        used = self._used_at(now_ns)
        left = max(0, self._capacity - used)  # what was used may be more than there was
        return Standing(self.per_minute, left // self._unit, -(-used // self.per_minute))

    def _used_at(self, now_ns: int) -> int:
        filled = (now_ns - self._at_ns) * self.per_minute
        return max(0, self._used - filled) if filled > 0 else self._used


class Bounds:
    """The limits of one key, project or tenant in one gateway of ``share``, and how much of them is in use."""

    __slots__ = ("_rows", "_share", "_slots", "_usual_tokens", "in_flight", "limits", "requests", "tokens")

    def __init__(self, limits: AccessLimits, share: int = 1) -> None:
        self._share = share
        self.in_flight = 0
        self.requests: Bucket | None = None
        self._rows: Bucket | None = None
        self.tokens: Bucket | None = None
        self._usual_tokens = 0.0  # of a request, learnt from those before
        self.follow(limits)

    def follow(self, limits: AccessLimits) -> None:
        """Take new limits; a rate that did not change keeps what was used of it."""
        self.limits = limits
        self.requests = _bucket(self.requests, limits.requests_per_minute, self._share)
        self._rows = _bucket(self._rows, limits.rows_per_minute, self._share)
        self.tokens = _bucket(self.tokens, limits.tokens_per_minute, self._share)
        # A gateway without a single slot would refuse for ever whoever happens to be connected to it.
        self._slots = None if limits.concurrency is None else max(1, limits.concurrency // self._share)

    def check(self, rows: int, input_bytes: int, now_ns: int, count: int = 1) -> None:
        """Raise PayloadLimited, ConcurrencyLimited or RateLimited if one more request of that size is too much.

        Or ``count`` more, of ``rows`` in all, the largest of ``input_bytes``: then that they cannot all pass says
        nothing of each.
        """
        limits = self.limits
        if limits.payload_bytes is not None and input_bytes > limits.payload_bytes:
            raise PayloadLimited(f"{self._who} may send {limits.payload_bytes} bytes a request, not {input_bytes}")
        if self._rows is not None and rows > self._rows.size:
            raise PayloadLimited(
                f"a request of {rows} rows never fits into the {limits.rows_per_minute} rows a minute of {self._who}",
                hint=f"send at most {self._rows.size} rows a request",
            )
        if self._slots is not None and self.in_flight + count > self._slots:
            text = f"{self._who} may have {limits.concurrency} requests under way"
            raise ConcurrencyLimited(text, retry_after_seconds=1)
        if self.requests is not None and (wait := self.requests.wait_ns(count, now_ns)):
            raise _limited(f"{self._who} may send {limits.requests_per_minute} requests a minute", wait)
        if self._rows is not None and (wait := self._rows.wait_ns(rows, now_ns)):
            raise _limited(f"{self._who} may send {limits.rows_per_minute} rows a minute", wait)
        if self.tokens is not None and (wait := self.tokens.wait_ns(max(1, self._held(count)), now_ns)):
            raise _limited(f"{self._who} may use {limits.tokens_per_minute} tokens a minute", wait)

    def enter(self, rows: int, now_ns: int, count: int = 1) -> int:
        """Count what :meth:`check` let through, until its :meth:`leave`; return the tokens that it holds.

        How many it will use nobody knows: as many are held as requests usually use, until :meth:`used` says.
        """
        self.in_flight += count
        if self.requests is not None:
            self.requests.take(count, now_ns)
        if self._rows is not None:
            self._rows.take(rows, now_ns)
        if self.tokens is None:
            return 0
        held = self._held(count)
        self.tokens.take(held, now_ns)
        return held

    def used(self, held: int, tokens: int, now_ns: int) -> None:
        """A request that held so many tokens has used ``tokens``."""
        if self.tokens is not None:
            self.tokens.correct(tokens - held, now_ns)
            self._usual_tokens += (tokens - self._usual_tokens) * _LEARN

    def unused(self, held: int, now_ns: int) -> None:
        """A request that held so many tokens was not computed."""
        if self.tokens is not None:
            self.tokens.correct(-held, now_ns)

    def _held(self, count: int) -> int:
        assert self.tokens is not None
        return min(self.tokens.size, round(self._usual_tokens) * count)

    def leave(self, count: int = 1) -> None:
        """The request is answered, or will not be."""
        self.in_flight -= count

    @property
    def _who(self) -> str:
        return f"{self.limits.scope} {self.limits.name!r}"


def _bucket(old: Bucket | None, per_minute: int | None, share: int) -> Bucket | None:
    if per_minute is None or (old is not None and old.per_minute == per_minute):
        return None if per_minute is None else old
    return Bucket(per_minute, share)


def _limited(text: str, wait_ns: int) -> RateLimited:
    return RateLimited(text, retry_after_seconds=-(-wait_ns // SECOND_NS))
