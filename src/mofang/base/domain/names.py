"""Names and identifiers: what they may look like, and how new ones are made.

Everything that becomes part of a path, a URL or a query passes :func:`check_name` at the edge, so that no later layer
has to escape anything.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

from mofang.base.domain.errors import InvalidName

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_OF_BYTE = _CROCKFORD.encode() * 8  # a random byte makes a random character: its lowest five bits count
_RANDOM: deque[str] = deque()  # 16 characters each, that nobody was given yet; it is safe to take one in any thread
_MADE_AT_ONCE = 64  # to ask the kernel costs more than all the rest of a new identifier
os.register_at_fork(after_in_child=_RANDOM.clear)


def check_name(kind: str, value: str) -> str:
    """Return ``value`` if it is a legal name of a ``kind`` ("model", "endpoint", ...); else raise InvalidName."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or ".." in value:
        shown = value if isinstance(value, str) and len(value) <= 80 else f"{str(value)[:77]}..."
        raise InvalidName(f"{shown!r} is no name for a {kind}")
    return value


def new_id(prefix: str) -> str:
    """Return ``prefix`` and 26 characters that sort by time of making (48-bit milliseconds, 80 random bits)."""
    return f"{prefix}_{_stamp(time.time_ns() // 1_000_000)}{_random()}"


def new_ids(prefix: str, count: int) -> list[str]:
    """Return ``count`` of what :func:`new_id` makes, at less than half of the cost each."""
    start = f"{prefix}_{_stamp(time.time_ns() // 1_000_000)}"
    return [start + _random() for _ in range(count)]


def _random() -> str:
    while True:
        try:
            return _RANDOM.popleft()
        except IndexError:
            text = os.urandom(16 * _MADE_AT_ONCE).translate(_OF_BYTE).decode()
            _RANDOM.extend([text[at : at + 16] for at in range(0, len(text), 16)])


def _stamp(milliseconds: int) -> str:
    return _second(milliseconds >> 10) + _CROCKFORD[(milliseconds >> 5) & 31] + _CROCKFORD[milliseconds & 31]


@lru_cache(maxsize=1)  # many are made in one
def _second(number: int) -> str:
    return "".join([_CROCKFORD[(number >> shift) & 31] for shift in range(35, -1, -5)])


def now_us() -> int:
    """Return the time as integer microseconds since the epoch, the unit of every ``*_at`` field."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class VersionRef:
    """``digits`` (newest), ``digits@3`` (a number) or ``digits@champion`` (an alias).

    ``digits@3+int8-dynamic`` is a variant of that version.
    """

    model: str
    selector: str = ""
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> VersionRef:
        """Parse ``MODEL[@NUMBER|@ALIAS[+VARIANT]]``; raise InvalidName otherwise."""
        model, at, rest = text.partition("@")
        selector, plus, variant = rest.partition("+")
        check_name("model", model)
        if at:
            check_name("version or alias", selector)
        if plus:
            check_name("variant", variant)
        return cls(model, selector, variant)

    @property
    def number(self) -> int | None:
        """The version number, if the selector is one."""
        return int(self.selector) if self.selector.isdecimal() else None

    def __str__(self) -> str:
        named = f"{self.model}@{self.selector}" if self.selector else self.model
        return f"{named}+{self.variant}" if self.variant else named
