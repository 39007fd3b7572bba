"""API keys as text: how one is made, taken apart and checked. Pure; the gateways use it without a database.

A key is ``mf_<id>_<secret><check>``: ten characters that name it, thirty-two that prove it, and six that tell a
damaged key from a wrong one (CRC-32 of all before, base 62). Only the SHA-256 of the secret is kept anywhere; the
secret has 190 random bits, so it needs no salt and no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from mofang.base.domain.access import KeyEntry, Principal
from mofang.base.domain.errors import ExpiredKey, OutOfNetwork, Unauthenticated, UnknownKey
from mofang.base.identity.addresses import is_within

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH, _CHECK_LENGTH = 10, 32, 6
_KEY = re.compile(r"mf_([0-9A-Za-z]{10})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})", re.ASCII)
_NO_DIGEST = "0" * 64  # compared against when no key has that id, so that this takes as long


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. ``text`` is shown once and kept by its owner alone."""

    id: str
    text: str
    secret_sha256: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"  # a key must not end up in a log


def new_key() -> NewKey:
    """Make a key from the system's randomness."""
    key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
    body = f"mf_{key_id}_{secret}"
    return NewKey(key_id, body + _check(body), _sha256(secret))


def parse_key(text: str) -> tuple[str, str]:
    """Return id and secret of the key ``text``; raise UnknownKey if it is none, or damaged."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise UnknownKey("that is no key: a key looks like mf_<10 characters>_<38 characters>")
    if _check(text[:-_CHECK_LENGTH]) != match[3]:
        raise UnknownKey(f"key {match[1]!r} is damaged: its last six characters do not fit the rest")
    return match[1], match[2]


def authenticate(text: str | None, entries: Mapping[str, KeyEntry], at: int, address: str = "") -> Principal:
    """Return whose key ``text`` is, among ``entries`` by id, ``at`` a time in microseconds.

    Raises Unauthenticated without a key, UnknownKey for one that is not in ``entries`` (never made, or revoked),
    ExpiredKey, and OutOfNetwork if ``address`` is not where it may come from. Secrets are compared in constant time.
    """
    if not text:
        raise Unauthenticated("this needs a key")
    key_id, secret = parse_key(text)
    entry = entries.get(key_id)
    same = hmac.compare_digest(_sha256(secret), entry.secret_sha256 if entry else _NO_DIGEST)
    if entry is None or not same:
        raise UnknownKey(f"key {key_id!r} is not known here, or was revoked")
    if entry.expires_at is not None and at >= entry.expires_at:
        raise ExpiredKey(f"key {key_id!r} has expired")
    check_address(entry, address)
    return Principal(
        key_id, entry.tenant, entry.project, entry.role, entry.endpoints, entry.reach, entry.verbs, entry.user
    )


def check_address(entry: KeyEntry, address: str) -> None:
    """Raise OutOfNetwork if the key may not be used from ``address``."""
    if entry.networks and not is_within(address, entry.networks):
        raise OutOfNetwork(f"key {entry.id!r} may not be used from {address or 'an unknown address'}")


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def _check(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(_CHECK_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
