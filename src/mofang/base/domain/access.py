"""Who may do what: principals, roles and the permissions they carry, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["admin", "developer", "consumer"]
LimitScope = Literal["key", "project", "tenant"]
Permission = Literal["infer", "read", "make", "deploy", "usage", "sell", "identity", "audit", "operate"]

PERMISSIONS: dict[str, frozenset[str]] = {
    "admin": frozenset({"infer", "read", "make", "deploy", "usage", "sell", "identity", "audit", "operate"}),
    "developer": frozenset({"infer", "read", "make", "deploy", "usage"}),
    "consumer": frozenset({"infer", "usage"}),
}
"""``usage`` shows a consumer her own project's usage only; ``read`` shows models, runs and endpoints."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key, as authenticated."""

    key_id: str
    tenant: str
    project: str
    role: Role
    endpoints: tuple[str, ...] = ()  # what the key may ask; empty: every endpoint

    def may(self, permission: Permission) -> bool:
        """Tell whether the role carries ``permission``."""
        return permission in PERMISSIONS[self.role]

    def may_ask(self, endpoint: str) -> bool:
        """Tell whether the key's scope has ``endpoint``."""
        return not self.endpoints or endpoint in self.endpoints


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """What a gateway needs to know of a key: never the secret, only its SHA-256."""

    id: str
    secret_sha256: str
    tenant: str
    project: str
    role: Role
    expires_at: int | None = None  # microseconds since the epoch
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """How much a key, all keys of a project, or all projects of a tenant may ask. None: as much as they like."""

    scope: LimitScope
    name: str  # of the project or tenant; the id of the key
    requests_per_minute: int | None = None
    rows_per_minute: int | None = None
    concurrency: int | None = None  # requests being answered at the same time
    payload_bytes: int | None = None  # of one request's body


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who pays."""

    name: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Project:
    """Who uses; belongs to a tenant."""

    name: str
    tenant: str
    created_at: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown: without its secret. ``last_used_at`` is for those to fill in who know the ledger."""

    id: str
    name: str
    project: str
    tenant: str
    role: Role
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    endpoints: tuple[str, ...] = ()  # what it may ask; empty: every endpoint
    last_used_at: int | None = None
