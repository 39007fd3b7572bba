"""Passwords: hashed with Argon2id (RFC 9106, low-memory profile), checked at the same cost right or wrong.

Hashing takes 64 MiB and some ten milliseconds on purpose. So that strangers cannot buy that by the thousand, only a few
are hashed at once; who comes beyond that is told to come again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError

from mofang.base.domain.errors import InvalidPassword, Overloaded

MIN_LENGTH, MAX_LENGTH = 10, 200
_AT_ONCE, _WAIT_SECONDS = 2, 5.0


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)
        self._slots = threading.BoundedSemaphore(_AT_ONCE)
        self._nobody = self._hasher.hash("the password of nobody")  # what is checked where there is no hash

    def hash(self, password: str) -> str:
        """Return what is kept of ``password``; raise InvalidPassword if it is too short, or no text."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise InvalidPassword(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters, not {len(password)}")
        with self._slot():
            return self._hasher.hash(password)

    def check(self, password: str, kept: str | None) -> bool:
        """Tell whether ``password`` is the one that was kept; it takes as long when there is none."""
        with self._slot():
            try:
                return self._hasher.verify(kept or self._nobody, password) and kept is not None
            except (VerificationError, InvalidHashError):
                return False

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=_WAIT_SECONDS):
            raise Overloaded("too many people sign in at this moment", retry_after_seconds=5)
        try:
            yield
        finally:
            self._slots.release()
