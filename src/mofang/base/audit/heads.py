"""Signed heads of the audit log: what the whole log was at some moment, in 64 bytes nobody else can make.

A head that was anchored (kept where whoever can change the log cannot) shows a tail that was cut and a log that was
rewritten as a whole. Pure, apart from the key's file.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mofang.base.domain.errors import InvalidAuditKey
from mofang.base.domain.registry import canonical_json

_CONTEXT = b"mofang audit head 1\n"
"""What a signature begins with, so that it can be taken for nothing else."""


@dataclass(frozen=True, slots=True)
class Head:
    """The log when it had ``size`` records: the root of its Merkle tree, and the hash of the last record."""

    size: int
    root: str
    last: str
    at: int  # microseconds since the epoch
    signature: str = ""  # base64 of Ed25519 over the rest; empty: not signed

    @property
    def signed_bytes(self) -> bytes:
        """What is signed: the fields but the signature, as canonical JSON after a fixed line."""
        return _CONTEXT + canonical_json({"size": self.size, "root": self.root, "last": self.last, "at": self.at})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"size": self.size, "root": self.root, "last": self.last, "at": self.at, "signature": self.signature}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Head:
        """Return the head that :meth:`to_dict` wrote."""
        return cls(*(fields[name] for name in ("size", "root", "last", "at", "signature")))


class AuditKey:
    """The private key that signs heads."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def open(cls, path: Path) -> AuditKey:
        """Read the key at ``path``, or make one there (mode 0600) if there is none; raise InvalidAuditKey."""
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            _write_once(path, pem)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except ValueError as error:
            raise InvalidAuditKey(f"{path} holds no private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidAuditKey(f"{path} holds a key of another kind than Ed25519")
        return cls(key)

    @property
    def public_pem(self) -> str:
        """The public key as PEM: what those who verify need."""
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, size: int, root: str, last: str, at: int) -> Head:
        """Return a signed head."""
        head = Head(size, root, last, at)
        signature = b64encode(self._private.sign(head.signed_bytes)).decode()
        return Head(size, root, last, at, signature)


class AuditPublicKey:
    """The public key that checks heads; raises InvalidAuditKey if the text is none."""

    def __init__(self, pem: str) -> None:
        try:
            key = load_pem_public_key(pem.encode())
        except ValueError as error:
            raise InvalidAuditKey("that is no public key", hint="`mofang audit key` prints it as PEM") from error
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidAuditKey("that is a public key of another kind than Ed25519")
        self._key = key

    def has_signed(self, head: Head) -> bool:
        """Tell whether the signature of ``head`` is good."""
        try:
            self._key.verify(b64decode(head.signature, validate=True), head.signed_bytes)
        except (InvalidSignature, ValueError):
            return False
        return True


def _write_once(path: Path, content: bytes) -> None:
    """Write a private file, whole or not at all; if another process was first, its file stays."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
