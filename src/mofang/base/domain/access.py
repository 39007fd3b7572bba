"""Who may do what, and to whose things: roles and their permissions as data, principals, and how far each reaches.

A principal has one role and one reach. The role says what may be done; the reach says to whose things: a project's, all
of a tenant's, or everybody's. Nothing outside of a principal's reach exists for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

Role = Literal["owner", "admin", "developer", "billing", "auditor", "viewer", "consumer"]
Reach = Literal["platform", "tenant", "project"]
LimitScope = Literal["key", "project", "tenant"]
Permission = Literal["infer", "read", "make", "deploy", "usage", "bill", "sell", "identity", "audit", "operate"]

PERMISSIONS: MappingProxyType[Role, frozenset[Permission]] = MappingProxyType(
    {
        "owner": frozenset(get_args(Permission)),
        "admin": frozenset(get_args(Permission)) - {"sell"},
        "developer": frozenset({"infer", "read", "make", "deploy", "usage"}),
        "billing": frozenset({"usage", "bill"}),
        "auditor": frozenset({"read", "usage", "bill", "audit"}),
        "viewer": frozenset({"read", "usage"}),
        "consumer": frozenset({"infer", "usage"}),
    }
)
"""The role matrix. ``infer`` asks endpoints; ``read`` shows what was made and deployed, ``make`` makes it, ``deploy``
serves it; ``usage`` shows what was used, ``bill`` prices and invoices; ``sell`` sets and makes those; ``identity`` says
who may do what; ``audit`` shows who did what; ``operate`` looks after the server itself."""

WIDTH: MappingProxyType[Reach, int] = MappingProxyType({"project": 0, "tenant": 1, "platform": 2})


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose things are seen and changed, and to whom new ones belong: always one project, which a tenant pays for."""

    tenant: str
    project: str
    reach: Reach = "project"

    def covers(self, tenant: str, project: str = "") -> bool:
        """Tell whether a project of ``tenant``, or with no project the tenant as a whole, is within reach."""
        if self.reach == "platform":
            return True
        return tenant == self.tenant and (self.reach == "tenant" or project == self.project)

    def narrowed(self) -> Scope:
        """Return the scope of its project alone."""
        return replace(self, reach="project")


DEFAULT_TENANT = "default"
DEFAULT_PROJECT = "default"
NOTHING = Scope("", "")
"""How a stranger sees it: there is no project without a name."""
EVERYTHING = Scope(DEFAULT_TENANT, DEFAULT_PROJECT, "platform")
"""How the server itself sees the world; nobody's key, so what it makes belongs to the default project."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of a key, or a person who signed in, as authenticated."""

    key_id: str
    tenant: str
    project: str
    role: Role
    endpoints: tuple[str, ...] = ()  # what the key may ask; empty: every endpoint
    reach: Reach = "project"
    verbs: tuple[Permission, ...] = ()  # what of its role the key may use; empty: all
    user: str = ""  # who signed in; empty: a key
    address: str = ""  # where it asks from, as far as its gateway could see
    batch: bool = False  # whether a batch asks on behalf of the key

    @property
    def scope(self) -> Scope:
        """Whose things it reaches."""
        return Scope(self.tenant, self.project, self.reach)

    @property
    def permissions(self) -> frozenset[Permission]:
        """What it may do."""
        allowed = PERMISSIONS[self.role]
        return allowed.intersection(self.verbs) if self.verbs else allowed

    def may(self, permission: Permission) -> bool:
        """Tell whether the role carries ``permission``, and the key its verb."""
        return permission in PERMISSIONS[self.role] and (not self.verbs or permission in self.verbs)

    def may_ask(self, endpoint: str) -> bool:
        """Tell whether the key's scope has ``endpoint``."""
        return not self.endpoints or endpoint in self.endpoints

    def may_give(self, role: Role, reach: Reach, verbs: tuple[Permission, ...] = ()) -> bool:
        """Tell whether it may make a key, or a grant, of that power: nobody gives what she does not have."""
        given = PERMISSIONS[role].intersection(verbs) if verbs else PERMISSIONS[role]
        return given <= self.permissions and WIDTH[reach] <= WIDTH[self.reach]

    def __str__(self) -> str:
        return self.user or f"key {self.key_id}"


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
    reach: Reach = "project"
    verbs: tuple[Permission, ...] = ()
    networks: tuple[str, ...] = ()  # CIDR ranges it may come from; empty: from anywhere
    user: str = ""


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """How much a key, all keys of a project, or all projects of a tenant may ask. None: as much as they like."""

    scope: LimitScope
    name: str  # of the project or tenant; the id of the key
    requests_per_minute: int | None = None
    rows_per_minute: int | None = None
    concurrency: int | None = None  # requests being answered at the same time
    payload_bytes: int | None = None  # of one request's body
    tokens_per_minute: int | None = None  # read and written, of models that report them


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
class Grant:
    """A role that a user has in a project, in a tenant (no project named) or on the platform (no tenant either)."""

    role: Role
    tenant: str = ""
    project: str = ""

    @property
    def reach(self) -> Reach:
        """Whose things it is about."""
        return "project" if self.project else "tenant" if self.tenant else "platform"

    def __str__(self) -> str:
        names: dict[Reach, str] = {"project": f"project {self.project}", "tenant": f"tenant {self.tenant}"}
        return f"{self.role} of {names.get(self.reach, 'the platform')}"


@dataclass(frozen=True, slots=True)
class User:
    """A person, as she may be shown."""

    name: str
    grants: tuple[Grant, ...]
    created_at: int
    disabled_at: int | None = None
    issuer: str = ""  # the OIDC provider that knows her; empty: she signs in by password
    has_password: bool = False
    code_expires_at: int | None = None  # of an open one-time code


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
    reach: Reach = "project"
    verbs: tuple[Permission, ...] = ()
    networks: tuple[str, ...] = ()
