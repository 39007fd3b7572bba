"""Variants: smaller and faster forms of versions, searched for and measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from mofang.base.domain.errors import BlobNotFound, EndpointNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.jobs.store import JobStore
from mofang.base.storage.owners import Owners
from mofang.make.compress.compare import Comparison
from mofang.make.compress.endpoint import UPSTREAM
from mofang.make.compress.page import variants_html
from mofang.make.compress.pick import Objective
from mofang.make.compress.quality import Wanted
from mofang.make.compress.store import Variant, VariantStore
from mofang.make.register.store import Registry
from mofang.run.deploy.deployments import Deployments
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import (
    STILL,
    AfterId,
    Body,
    Limit,
    ModelName,
    OptionalReference,
    Page,
    Reference,
    Selector,
    Submitted,
    Text,
    page,
    version_of,
)

_MAX_SECONDS = 86_400.0
_MAX_TRIALS = 10_000
_ENDPOINT = "endpoint:"  # a teacher that answers here
_HTML = {"response_class": Response, "responses": {200: {"content": {"text/html": {}}}}}


class VariantBody(Body):
    """Which version to compress, what its variants may lose and cost, and how long to search.

    ``max_drop`` is a share of 1, null: any; of a language model the share by which perplexity may rise. Latency is of
    one row on one thread, or of a token of one stream. ``calibration`` is the SHA-256 of an uploaded .npy or .npz of
    what the model is asked, or of a text file for a language model, called ``filename``; ``dataset`` the digest of
    other data than the version was made from. ``seconds`` and ``trials``: 0 is no limit. Networks learn from
    ``teacher`` instead of the version: MODEL@VERSION, ``endpoint:NAME`` of this server (the version that answers there
    now), or ``upstream:SERVER/MODEL`` of another that speaks the Open Inference Protocol, as the setting ``upstreams``
    has it.
    """

    version: Reference
    max_drop: float | None = Field(0.005, ge=0, le=1, allow_inf_nan=False)
    max_latency_ms: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_size_mb: float | None = Field(None, gt=0, allow_inf_nan=False)
    objective: Objective = "balance"
    seconds: float = Field(600.0, ge=0, le=_MAX_SECONDS, allow_inf_nan=False)
    trials: int = Field(0, ge=0, le=_MAX_TRIALS)
    dataset: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$")
    calibration: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    filename: Text = Field("", max_length=255)
    metric: Wanted = "auto"
    teacher: Text = Field("", max_length=512)


class VariantView(BaseModel):
    """A candidate of a search.

    ``technique`` is its name among the variants of its version, ``told`` how it was made, ``steps`` the same as JSON.
    ``comparison`` is null if it could not be made; ``version`` is 0 if it was not registered, and ``refusal`` says why.
    ``settings`` is how the pick runs best on the server's machine, empty of others; a new endpoint begins with it.
    """

    id: str
    model: str
    parent: str
    technique: str
    digest: str
    dataset: str
    comparison: Comparison | None
    accepted: bool
    refusal: str
    version: int
    job: str
    steps: str
    told: str
    is_front: bool
    is_picked: bool
    settings: dict[str, Any]
    created_at: int


class VariantsView(BaseModel):
    """The variants of a version that are registered, and the candidates of its newest search, as they were tried."""

    version: str
    registered: list[ModelVersion]
    candidates: list[VariantView]


class TuningBody(Body):
    """Which version, how long a request may wait for its answer when all are busy, and how long to measure."""

    version: Reference
    latency_ms: float = Field(50.0, gt=0, le=600_000)
    seconds: float = Field(10.0, ge=1, le=3600)


class Compress:
    """The routes of `compress`."""

    def __init__(
        self,
        variants: VariantStore,
        registry: Registry,
        jobs: JobStore,
        owners: Owners,
        deployments: Deployments,
        changes: Changes,
    ) -> None:
        self._variants = variants
        self._registry = registry
        self._jobs = jobs
        self._owners = owners
        self._deployments = deployments
        self._changes = changes

    def start_compression(self, body: VariantBody, who: Caller) -> Submitted:
        """Search for variants of a version, as a job."""
        version = self._registry.get(VersionRef.parse(body.version))
        if body.calibration and not self._owners.has("upload", body.calibration):
            raise BlobNotFound(f"no upload has the digest {body.calibration!r}")
        owner = self._registry.owner(version.model)
        teacher = self._named(body.teacher)
        with self._changes.record(
            who, "compression.start", str(version), of=owner, before=None, max_drop=str(body.max_drop)
        ) as entry:
            spec = {**body.model_dump(), "version": str(version), "teacher": teacher}
            job = self._jobs.submit("compress", spec, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def _named(self, teacher: str) -> str:
        """Return the teacher of a job; of an endpoint the version that answers now, so that it stays the same."""
        if teacher.startswith(_ENDPOINT):
            return self._answering(teacher.removeprefix(_ENDPOINT))
        if "@" in teacher and not teacher.startswith(UPSTREAM):
            return str(self._registry.get(VersionRef.parse(teacher)))
        return teacher

    def _answering(self, endpoint: str) -> str:
        """Return the version that an endpoint answers with now. Raises EndpointNotFound if it answers nothing yet."""
        self._deployments.get_endpoint(endpoint)
        active, _ = self._deployments.standing([endpoint])
        if endpoint not in active:
            raise EndpointNotFound(f"endpoint {endpoint!r} answers nothing yet")
        found = active[endpoint]
        variant = f"+{found.variant}" if found.variant else ""
        return str(self._registry.get(VersionRef.parse(f"{found.model}@{found.version}{variant}")))

    def start_tuning(self, body: TuningBody, who: Caller) -> Submitted:
        """Find by measuring how to run a version on this machine, as a job; a deployment may use it."""
        version = self._registry.get(VersionRef.parse(body.version))
        owner = self._registry.owner(version.model)
        with self._changes.record(who, "tuning.start", str(version), of=owner, before=None) as entry:
            job = self._jobs.submit("tune", {**body.model_dump(), "version": str(version)}, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def list_variants(
        self, version: OptionalReference = "", after: AfterId = "", limit: Limit = 100
    ) -> Page[VariantView]:
        """List candidates of searches, newest first; of one version, if ``version`` (MODEL[@VERSION]) is given."""
        parent = self._registry.get(VersionRef.parse(version)).digest if version else ""
        found = self._variants.list(parent, after, limit + 1)
        return page([_view(one) for one in found], limit, lambda one: one.id)

    def get_variants(self, name: ModelName, selector: Selector) -> VariantsView:
        """Return what variants a version has, and what the newest search for them found."""
        found = self._registry.get(version_of(name, selector))
        return VariantsView(
            version=str(found),
            registered=self._registry.list_variants(found),
            candidates=[_view(each) for each in self._variants.newest(found.digest)],
        )

    def get_variants_report(self, name: ModelName, selector: Selector) -> Response:
        """Return what the newest search for variants found as a page to look at."""
        found = self._registry.get(version_of(name, selector))
        text = variants_html(str(found), self._variants.newest(found.digest))
        return Response(text, media_type="text/html; charset=utf-8", headers=STILL)


def router(
    variants: VariantStore,
    registry: Registry,
    jobs: JobStore,
    owners: Owners,
    deployments: Deployments,
    changes: Changes,
) -> APIRouter:
    """Make the router of `compress`."""
    api = Compress(variants, registry, jobs, owners, deployments, changes)
    of_version = "/models/{name}/versions/{selector}/variants"
    return table(
        "compress",
        Route("POST", "/variants", "make", api.start_compression, 202),
        Route("GET", "/variants", "read", api.list_variants),
        Route("POST", "/tunings", "make", api.start_tuning, 202),
        Route("GET", of_version, "read", api.get_variants),
        Route("GET", f"{of_version}/report.html", "read", api.get_variants_report, options=_HTML),
    )


def _view(variant: Variant) -> VariantView:
    return VariantView(**{**asdict(variant), "comparison": variant.comparison}, accepted=variant.accepted)
