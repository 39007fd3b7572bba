"""Tenants, projects, keys, and how much each may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.access import (
    AccessLimits,
    ApiKey,
    LimitScope,
    Permission,
    Principal,
    Project,
    Reach,
    Role,
    Scope,
    Tenant,
)
from mofang.base.domain.errors import Forbidden, OutOfReach
from mofang.base.domain.names import now_us
from mofang.base.identity.store import USUAL_WEIGHT, IdentityStore
from mofang.sell.meter.store import UsageStore
from mofang.surface.api.access import Caller, Route, check_bounding, table
from mofang.surface.api.changes import PLATFORM, Changes
from mofang.surface.api.changes import tenant as tenant_of
from mofang.surface.api.fields import Body, EndpointName, Id, Network, Page, ProjectName, TenantName, Text

HUNDRED_YEARS_SECONDS = 100 * 365 * 86_400
MAX_LIMIT = 10**12


class TenantBody(Body):
    """The name of a new tenant."""

    name: TenantName


class ProjectBody(Body):
    """The name of a new project, and the tenant that pays for it."""

    name: ProjectName
    tenant: TenantName = "default"


class KeyBody(Body):
    """Whose key to make, with which role and reach, called how (for people), valid how long (left out: until revoked);
    for which endpoints, for which verbs of its role, and from which networks (where there is none: for all)."""

    project: ProjectName
    role: Role = "consumer"
    name: Text = Field("", max_length=100)
    expires_in_seconds: int | None = Field(None, ge=1, le=HUNDRED_YEARS_SECONDS)
    endpoints: list[EndpointName] = Field(default_factory=list, max_length=100)
    reach: Reach = "project"
    verbs: list[Permission] = Field(default_factory=list, max_length=20)
    networks: list[Network] = Field(default_factory=list, max_length=100)


class RotationBody(Body):
    """How long the old key goes on working."""

    overlap_seconds: int = Field(3600, ge=0, le=HUNDRED_YEARS_SECONDS)


class NewKey(BaseModel):
    """A key that was just made. ``key`` is its text, which nobody can ever show again."""

    id: str
    name: str
    project: str
    tenant: str
    role: Role
    created_at: int
    expires_at: int | None
    endpoints: tuple[str, ...]
    reach: Reach
    verbs: tuple[Permission, ...]
    networks: tuple[str, ...]
    key: str


class LimitsBody(Body):
    """How much may be asked; what is left out is not limited."""

    requests_per_minute: int | None = Field(None, ge=1, le=MAX_LIMIT)
    rows_per_minute: int | None = Field(None, ge=1, le=MAX_LIMIT)
    concurrency: int | None = Field(None, ge=1, le=MAX_LIMIT)
    payload_bytes: int | None = Field(None, ge=1, le=MAX_LIMIT)
    tokens_per_minute: int | None = Field(None, ge=1, le=MAX_LIMIT)


class WeightBody(Body):
    """Percent of the usual share of engines that several tenants want."""

    weight: int = Field(ge=1, le=10_000)


class WeightView(BaseModel):
    """A tenant's share of engines that several tenants want, in percent of the usual one."""

    tenant: str
    weight: int


class Identity:
    """The routes of identity."""

    def __init__(self, identity: IdentityStore, usage: UsageStore, changes: Changes) -> None:
        self._identity = identity
        self._usage = usage
        self._changes = changes

    def list_tenants(self) -> Page[Tenant]:
        """List tenants by name."""
        return Page(items=self._identity.list_tenants())

    def create_tenant(self, body: TenantBody, who: Caller) -> Tenant:
        """Make a tenant."""
        with self._changes.record(who, "tenant.create", body.name, of=tenant_of(body.name), before=None) as entry:
            entry.after = made = self._identity.create_tenant(body.name)
        return made

    def list_weights(self) -> Page[WeightView]:
        """List what share each tenant has of engines that several want."""
        known = self._identity.weights()
        names = [tenant.name for tenant in self._identity.list_tenants()]
        return Page(items=[WeightView(tenant=name, weight=known.get(name, USUAL_WEIGHT)) for name in names])

    def set_weight(self, tenant: TenantName, body: WeightBody, who: Caller) -> WeightView:
        """Give a tenant a larger or smaller share of engines that several want. In force everywhere on return."""
        before = {"weight": self._identity.weights().get(tenant, USUAL_WEIGHT)}
        after = {"weight": body.weight}
        with self._changes.record(who, "tenant.weigh", tenant, of=tenant_of(tenant), before=before, after=after):
            self._identity.set_weight(tenant, body.weight)
        self._changes.publish()
        return WeightView(tenant=tenant, weight=body.weight)

    def list_projects(self) -> Page[Project]:
        """List projects by name."""
        return Page(items=self._identity.list_projects())

    def create_project(self, body: ProjectBody, who: Caller) -> Project:
        """Make a project of a tenant."""
        if not who.scope.covers(body.tenant):
            self._identity.get_tenant(body.tenant)  # raises TenantNotFound for another's
            raise OutOfReach("a key that reaches one project makes no others")
        of = Scope(body.tenant, body.name)
        with self._changes.record(who, "project.create", body.name, of=of, before=None) as entry:
            entry.after = made = self._identity.create_project(body.name, body.tenant)
        return made

    def list_keys(self, project: ProjectName | None = None) -> Page[ApiKey]:
        """List keys, those of a project or all, without their text; revoked ones as well."""
        if project is not None:
            self._identity.get_project(project)
        last_used = self._usage.last_used()
        keys = self._identity.list_keys(project)
        return Page(items=[replace(key, last_used_at=last_used.get(key.id)) for key in keys])

    def create_key(self, body: KeyBody, who: Caller) -> NewKey:
        """Make a key. Every gateway knows it when the answer comes."""
        lifetime = body.expires_in_seconds
        expires_at = None if lifetime is None else now_us() + lifetime * 1_000_000
        _check_gift(who, body.role, body.reach, body.verbs)
        with self._changes.record(who, "key.create", of=PLATFORM, before=None) as entry:
            key, text = self._identity.create_key(
                body.project, body.role, body.name, expires_at, body.endpoints, body.reach, body.verbs, body.networks
            )
            entry.target, entry.of, entry.after = key.id, _home(key), _told(key)
        self._changes.publish()
        return _new_key(key, text)

    def rotate_key(self, key: Id, body: RotationBody, who: Caller) -> NewKey:
        """Make a key in the place of another, which works for a while longer. Every gateway knows both on return."""
        old = self._identity.get_key(key)
        _check_gift(who, old.role, old.reach, old.verbs)
        overlap = body.overlap_seconds
        with self._changes.record(
            who, "key.rotate", key, of=_home(old), before=_told(old), overlap_seconds=overlap
        ) as entry:
            new, text = self._identity.rotate_key(key, overlap * 1_000_000)
            entry.after, entry.details["key"] = _told(self._identity.get_key(key)), new.id
        self._changes.publish()
        return _new_key(new, text)

    def revoke_key(self, key: Id, who: Caller) -> ApiKey:
        """Revoke a key. No gateway takes it any more when the answer comes."""
        old = self._identity.get_key(key)
        with self._changes.record(who, "key.revoke", key, of=_home(old), before=_told(old)) as entry:
            revoked = self._identity.revoke_key(key)
            entry.after = _told(revoked)
        self._changes.publish()
        return revoked

    def list_limits(self) -> Page[AccessLimits]:
        """List the limits that are set, by scope and name."""
        return Page(items=self._identity.list_limits())

    def set_limits(self, scope: LimitScope, name: Id, body: LimitsBody, who: Caller) -> AccessLimits:
        """Limit a key, a project or a tenant, in place of the limits it had. In force everywhere on return."""
        bounds = body.model_dump()
        check_bounding(who, scope)
        of = self._identity.scope_of(scope, name)
        known = (it for it in self._identity.list_limits() if (it.scope, it.name) == (scope, name))
        with self._changes.record(who, "limits.set", f"{scope}/{name}", of=of, before=next(known, None)) as entry:
            entry.after = found = self._identity.set_limits(AccessLimits(scope, name, **bounds))
        self._changes.publish()
        return found


def _check_gift(who: Principal, role: Role, reach: Reach, verbs: Sequence[Permission]) -> None:
    """Raise Forbidden unless the caller has all that a key of that power would have."""
    if not who.may_give(role, reach, tuple(verbs)):
        raise Forbidden(
            f"{who} ({who.role} of a {who.reach}) cannot make a key of role {role!r} that reaches a {reach}",
            hint="nobody gives away more than she has; `mofang roles` shows what each role may do",
        )


def _told(key: ApiKey) -> dict[str, Any]:
    """Return what the audit log says of a key."""
    told = {"project": key.project, "role": key.role, "reach": key.reach, "endpoints": list(key.endpoints)}
    told |= {"verbs": list(key.verbs), "networks": list(key.networks)}
    return told | {"expires_at": key.expires_at, "revoked_at": key.revoked_at}


def _home(key: ApiKey) -> Scope:
    return Scope(key.tenant, key.project)


def _new_key(key: ApiKey, text: str) -> NewKey:
    fields = asdict(key)
    del fields["revoked_at"], fields["last_used_at"]
    return NewKey(**fields, key=text)


def router(identity: IdentityStore, usage: UsageStore, changes: Changes) -> APIRouter:
    """Make the router of identity; the ledger tells when keys were last used."""
    api = Identity(identity, usage, changes)
    return table(
        "identity",
        Route("GET", "/tenants", "identity", api.list_tenants),
        Route("POST", "/tenants", "identity", api.create_tenant, 201, everywhere=True),
        Route("GET", "/weights", "identity", api.list_weights),
        Route("PUT", "/tenants/{tenant}/weight", "identity", api.set_weight, everywhere=True),
        Route("GET", "/projects", "identity", api.list_projects),
        Route("POST", "/projects", "identity", api.create_project, 201),
        Route("GET", "/keys", "identity", api.list_keys),
        Route("POST", "/keys", "identity", api.create_key, 201),
        Route("POST", "/keys/{key}/rotate", "identity", api.rotate_key, 201),
        Route("DELETE", "/keys/{key}", "identity", api.revoke_key),
        Route("GET", "/limits", "identity", api.list_limits),
        Route("PUT", "/limits/{scope}/{name}", "identity", api.set_limits),
    )
