"""Tenants, projects, keys, and how much each may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mofang.base.domain.access import (
    AccessLimits,
    ApiKey,
    LimitScope,
    Permission,
    Project,
    Reach,
    Role,
    Tenant,
)
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made, with its text: the one and only time it is shown."""

    id: str
    name: str
    project: str
    tenant: str
    role: Role
    created_at: int
    key: str
    expires_at: int | None = None
    endpoints: tuple[str, ...] = ()
    reach: Reach = "project"
    verbs: tuple[Permission, ...] = ()
    networks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"NewApiKey(id={self.id!r}, project={self.project!r}, role={self.role!r})"


@dataclass(frozen=True, slots=True)
class TenantWeight:
    """A tenant's share of engines that several tenants want, in percent of the usual one."""

    tenant: str
    weight: int


class Identity:
    """``client.identity``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by name."""
        return [*walk(self._wire, "/tenants", Tenant)]

    def create_tenant(self, name: str) -> Tenant:
        """Make a tenant."""
        return self._wire.call("POST", "/tenants", Tenant, {"name": name})

    def list_weights(self) -> list[TenantWeight]:
        """Return what share each tenant has of engines that several want."""
        return [*walk(self._wire, "/weights", TenantWeight)]

    def set_weight(self, tenant: str, weight: int) -> TenantWeight:
        """Give a tenant ``weight`` percent of the usual share of engines that several want; in force on return."""
        return self._wire.call("PUT", f"/tenants/{segment(tenant)}/weight", TenantWeight, {"weight": weight})

    def list_projects(self) -> list[Project]:
        """Return all projects by name."""
        return [*walk(self._wire, "/projects", Project)]

    def create_project(self, name: str, tenant: str = "default") -> Project:
        """Make a project of a tenant; raise ProjectExists if there is one of that name."""
        return self._wire.call("POST", "/projects", Project, {"name": name, "tenant": tenant})

    def list_keys(self, project: str | None = None) -> list[ApiKey]:
        """Return the keys of a project, or of all."""
        return [*walk(self._wire, "/keys", ApiKey, {"project": project})]

    def create_key(
        self,
        project: str,
        *,
        role: Role = "consumer",
        name: str = "",
        expires_in_seconds: int | None = None,
        endpoints: Sequence[str] = (),
        reach: Reach = "project",
        verbs: Sequence[Permission] = (),
        networks: Sequence[str] = (),
    ) -> NewApiKey:
        """Make a key; every gateway knows it on return. Its text is in the answer and nowhere else.

        It may ask ``endpoints``, use ``verbs`` of what its role allows, and come from ``networks`` (CIDR); where none
        is named, all are meant. Raises Forbidden if it would have more power than the key that makes it.
        """
        body = {
            "project": project,
            "role": role,
            "name": name,
            "expires_in_seconds": expires_in_seconds,
            "endpoints": list(endpoints),
            "reach": reach,
            "verbs": list(verbs),
            "networks": list(networks),
        }
        return self._wire.call("POST", "/keys", NewApiKey, body)

    def rotate_key(self, key_id: str, *, overlap_seconds: int = 3600) -> NewApiKey:
        """Make a key that may do what ``key_id`` may; that one expires after ``overlap_seconds``."""
        body = {"overlap_seconds": overlap_seconds}
        return self._wire.call("POST", f"/keys/{segment(key_id)}/rotate", NewApiKey, body)

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key; no gateway takes it any more on return."""
        return self._wire.call("DELETE", f"/keys/{segment(key_id)}", ApiKey)

    def list_limits(self) -> list[AccessLimits]:
        """Return the limits that are set, by scope and name."""
        return [*walk(self._wire, "/limits", AccessLimits)]

    def set_limits(
        self,
        scope: LimitScope,
        name: str,
        *,
        requests_per_minute: int | None = None,
        rows_per_minute: int | None = None,
        concurrency: int | None = None,
        payload_bytes: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> AccessLimits:
        """Limit a key (by its id), a project or a tenant, in place of the limits it had; in force on return.

        What is left out is not limited; with nothing given, nothing is.
        """
        body = {
            "requests_per_minute": requests_per_minute,
            "rows_per_minute": rows_per_minute,
            "concurrency": concurrency,
            "payload_bytes": payload_bytes,
            "tokens_per_minute": tokens_per_minute,
        }
        return self._wire.call("PUT", f"/limits/{segment(scope)}/{segment(name)}", AccessLimits, body)
