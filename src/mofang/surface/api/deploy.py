"""Endpoints: what they serve, how they got there, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from mofang.base.domain.deployment import (
    ROLLOUT_ENDED,
    Adapter,
    Audience,
    Endpoint,
    PlacementName,
    ReplicaLimits,
    Revision,
    Rollout,
)
from mofang.base.domain.errors import EndpointNotFound, NotTuned
from mofang.base.domain.names import VersionRef, check_name
from mofang.base.domain.registry import ModelVersion
from mofang.base.jobs.store import JobStore
from mofang.make.compress.pick import is_policy, wish_of
from mofang.make.compress.store import VariantStore, best
from mofang.make.register.adapters import attach
from mofang.make.register.store import Registry
from mofang.run.deploy.deployments import Deployments
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes, Entry, Owned
from mofang.surface.api.fields import (
    AfterName,
    Body,
    EndpointName,
    Id,
    Limit,
    Number,
    Page,
    ProjectName,
    Reference,
    TenantName,
    Text,
    Wait,
    page,
)
from mofang.surface.api.watching import watch

_MOST_VARIANTS = 1000
_MOST_TUNINGS = 1000  # that are looked through for the newest of a version
TensorName = Annotated[str, Field(min_length=1, max_length=256)]
OptionName = Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]


class LimitsBody(Body):
    """Bounds of a replica's queue and batches. What is left out stays as it is."""

    max_batch_rows: int | None = Field(default=None, ge=1, le=65_536)
    max_wait_us: int | None = Field(default=None, ge=0, le=60_000_000)
    preferred_rows: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] | None = Field(default=None, max_length=32)
    cache_bytes: int | None = Field(default=None, ge=0, le=2**40)
    pad: dict[TensorName, int | Text] | None = Field(default=None, max_length=64)
    on_demand: bool | None = None
    max_queue: int | None = Field(default=None, ge=1, le=1_000_000)
    max_queue_bytes: int | None = Field(default=None, ge=1, le=2**40)

    def over(self, limits: ReplicaLimits) -> ReplicaLimits:
        """Return ``limits`` with what is given here."""
        return replace(limits, **self.model_dump(exclude_none=True))


class DeployBody(Body):
    """The version to serve (MODEL[@VERSION]). What is left out stays as it is in the active revision.

    A new endpoint of a variant that a search picked begins with the replicas, threads and batches measured there.
    ``variant`` names a variant of it, or says which to choose: ``fastest within 0.5 points``; ``smallest`` and
    ``cheapest`` are the other words.
    """

    version: Reference
    variant: Text = Field("", max_length=100)
    placement: PlacementName | None = None
    replicas: int | None = Field(None, ge=1, le=64)
    limits: LimitsBody | None = None
    options: dict[OptionName, int | Text] | None = Field(None, max_length=32)  # of the engine
    adapters: dict[EndpointName, Reference] | None = Field(None, max_length=64)  # versions by the names requests give
    tuned: bool = False  # whether to run it as its newest tuning found best, but for what is given here
    private: bool = False  # whether a new endpoint is for its own project alone


class AudienceBody(Body):
    """Who may ask, besides those who reach the project of the endpoint: everyone, or these tenants and projects."""

    everyone: bool = False
    tenants: list[TenantName] = Field(default_factory=list, max_length=1000)
    projects: list[ProjectName] = Field(default_factory=list, max_length=1000)


class RollbackBody(Body):
    """The revision to return to; left out, the one before."""

    revision: Number | None = None


class Started(BaseModel):
    """The rollout a change became."""

    rollout: Rollout


class EndpointSummary(BaseModel):
    """An endpoint, the revision that answers, and the newest rollout."""

    endpoint: Endpoint
    active: Revision | None
    rollout: Rollout | None


class EndpointDetail(BaseModel):
    """An endpoint with its revisions and rollouts, newest first, and its replicas as they are observed."""

    endpoint: Endpoint
    active: Revision | None
    revisions: list[Revision]
    rollouts: list[Rollout]
    replicas: list[dict[str, Any]]
    audience: Audience


class Deploy:
    """The routes of `deploy`."""

    def __init__(
        self,
        deployments: Deployments,
        registry: Registry,
        variants: VariantStore,
        jobs: JobStore,
        replicas: Callable[[str], Sequence[Mapping[str, Any]]],
        changes: Changes,
    ) -> None:
        self._jobs = jobs
        self._deployments = deployments
        self._registry = registry
        self._variants = variants
        self._replicas = replicas
        self._changes = changes

    def list_endpoints(self, after: AfterName = "", limit: Limit = 100) -> Page[EndpointSummary]:
        """List endpoints by name."""
        found = [endpoint for endpoint in self._deployments.list_endpoints() if endpoint.name > after][: limit + 1]
        active, rollouts = self._deployments.standing([endpoint.name for endpoint in found])
        summaries = [
            EndpointSummary(endpoint=each, active=active.get(each.name), rollout=rollouts.get(each.name))
            for each in found
        ]
        return page(summaries, limit, lambda one: one.endpoint.name)

    def get_endpoint(self, name: EndpointName) -> EndpointDetail:
        """Return an endpoint with its revisions, rollouts and replicas."""
        endpoint, revisions = self._deployments.get_endpoint(name), self._deployments.revisions(name)
        return EndpointDetail(
            endpoint=endpoint,
            active=_active(endpoint, revisions),
            revisions=revisions,
            rollouts=self._deployments.rollouts(name),
            replicas=[dict(replica) for replica in self._replicas(name)],
            audience=self._deployments.audience(name),
        )

    def put_endpoint(self, name: EndpointName, body: DeployBody, who: Caller) -> Started:
        """Roll a version out to an endpoint, which is made if there is none."""
        version = self._chosen(self._registry.get(VersionRef.parse(body.version)), body.variant)
        now = self._current(name)
        of = Owned("endpoint", name)
        with self._changes.record(who, "endpoint.deploy", name, of=of, before=_told(now)) as entry:
            found = self._tuned(version) if body.tuned else {} if now else self._measured(version)
            limits = LimitsBody(**found.get("limits", {})).over(now.limits if now else ReplicaLimits())
            options = dict(_options(body, now, version))
            rollout = self._deployments.deploy(
                name,
                version,
                body.placement or (now.placement if now else "process"),
                body.replicas or found.get("replicas") or (now.replicas if now else 1),
                (body.limits or LimitsBody()).over(limits),
                Audience(everyone=not body.private),
                options | found.get("options", {}) | dict(body.options or {}),
                self._adapters(body, now, version),
            )
            self._tell(entry, rollout)
        self._changes.publish()
        return Started(rollout=rollout)

    def roll_back_endpoint(self, name: EndpointName, body: RollbackBody, who: Caller) -> Started:
        """Roll an endpoint back to an earlier revision."""
        before = _told(self._current(name))
        with self._changes.record(who, "endpoint.roll_back", name, of=Owned("endpoint", name), before=before) as entry:
            rollout = self._deployments.roll_back(name, body.revision)
            self._tell(entry, rollout)
        self._changes.publish()
        return Started(rollout=rollout)

    def share_endpoint(self, name: EndpointName, body: AudienceBody, who: Caller) -> Audience:
        """Say who may ask an endpoint, in place of what was said before. In force everywhere on return.

        It is not checked that there are such tenants and projects: whoever shares may not be told.
        """
        audience = Audience(body.everyone, tuple(sorted({*body.tenants})), tuple(sorted({*body.projects})))
        before = self._deployments.audience(name)
        of = Owned("endpoint", name)
        with self._changes.record(who, "endpoint.share", name, of=of, before=before, after=audience):
            self._deployments.share(name, audience)
        self._changes.publish()
        return audience

    def delete_endpoint(self, name: EndpointName, who: Caller) -> None:
        """Take an endpoint out of service; its revisions and usage stay on record."""
        of, before = Owned("endpoint", name), _told(self._current(name))
        with self._changes.record(who, "endpoint.delete", name, of=of, before=before, after=None):
            self._deployments.delete(name)
        self._changes.publish()

    async def get_rollout(self, request: Request, rollout: Id, wait: Wait = 0) -> Rollout:
        """Return a rollout; with ``wait``, when it has ended or that many seconds are over."""
        return await watch(
            request, lambda: self._deployments.get_rollout(rollout), lambda found: found.state in ROLLOUT_ENDED, wait
        )

    def _adapters(self, body: DeployBody, now: Revision | None, version: ModelVersion) -> dict[str, Adapter]:
        """Return the adapters that were sent, or those of the active revision if the same engine goes on."""
        given = body.adapters
        if given is None:
            goes_on = now is not None and now.engine == version.artifact.engine
            given = {name: it.version for name, it in now.adapters.items()} if now and goes_on else {}
        refs = {name: VersionRef.parse(text) for name, text in given.items()}
        return {name: attach(self._registry, version, name, ref) for name, ref in refs.items()}

    def _tuned(self, version: ModelVersion) -> dict[str, Any]:
        """Return what the newest tuning of these very files found, or their search; raise NotTuned without any."""
        for job in self._jobs.list("tune", "succeeded", _MOST_TUNINGS):
            if job.result.get("digest") == version.digest:
                return dict(job.result["chosen"]["deploy"])
        if found := self._measured(version):
            return found
        raise NotTuned(f"{version} was not tuned here yet", hint=f"`mofang tune {version}`")

    def _measured(self, version: ModelVersion) -> dict[str, Any]:
        """Return what the search that picked this variant found it to run best with; empty if none did."""
        found = self._variants.settings(version.digest) if version.variant else {}
        return dict(found["deploy"]) if found else {}

    def _tell(self, entry: Entry, rollout: Rollout) -> None:
        """Say what a rollout makes the active revision, once it has ended."""
        revisions = self._deployments.revisions(rollout.endpoint)
        entry.after = _told(next(it for it in revisions if it.number == rollout.to_revision))
        entry.details["rollout"] = rollout.id

    def _chosen(self, version: ModelVersion, variant: str) -> ModelVersion:
        """Return the variant of ``version`` that was named, or the best by a policy; without one, the version."""
        if not variant:
            return version
        if is_policy(variant):
            variant = best(self._variants.list(version.digest, limit=_MOST_VARIANTS), wish_of(variant)).technique
        return self._registry.get(replace(version.ref, variant=check_name("variant", variant)))

    def _current(self, name: str) -> Revision | None:
        try:
            return _active(self._deployments.get_endpoint(name), self._deployments.revisions(name))
        except EndpointNotFound:
            return None


def router(
    deployments: Deployments,
    registry: Registry,
    variants: VariantStore,
    jobs: JobStore,
    replicas: Callable[[str], Sequence[Mapping[str, Any]]],
    changes: Changes,
) -> APIRouter:
    """Make the router of `deploy`."""
    api = Deploy(deployments, registry, variants, jobs, replicas, changes)
    return table(
        "deploy",
        Route("GET", "/endpoints", "read", api.list_endpoints),
        Route("GET", "/endpoints/{name}", "read", api.get_endpoint),
        Route("PUT", "/endpoints/{name}", "deploy", api.put_endpoint, 202),
        Route("DELETE", "/endpoints/{name}", "deploy", api.delete_endpoint, 204),
        Route("PUT", "/endpoints/{name}/audience", "deploy", api.share_endpoint),
        Route("POST", "/endpoints/{name}/rollback", "deploy", api.roll_back_endpoint, 202),
        Route("GET", "/rollouts/{rollout}", "read", api.get_rollout),
    )


def _options(body: DeployBody, now: Revision | None, version: ModelVersion) -> Mapping[str, int | str]:
    """Return the options that were sent, or those of the active revision if the same engine goes on."""
    if body.options is not None:
        return body.options
    return now.options if now is not None and now.engine == version.artifact.engine else {}


def _told(revision: Revision | None) -> dict[str, Any] | None:
    """Return what the audit log says of a revision."""
    if revision is None:
        return None
    told = {"revision": revision.number, "version": revision.ref, "digest": revision.digest}
    return told | {"placement": revision.placement, "replicas": revision.replicas, "options": dict(revision.options),
                   "limits": asdict(revision.limits),
                   "adapters": {name: it.version for name, it in revision.adapters.items()}}  # fmt: skip


def _active(endpoint: Endpoint, revisions: Sequence[Revision]) -> Revision | None:
    return next((revision for revision in revisions if revision.number == endpoint.active_revision), None)
