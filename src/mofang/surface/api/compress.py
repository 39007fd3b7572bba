"""Variants: smaller forms of versions, measured."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.names import VersionRef
from mofang.base.jobs.store import JobStore
from mofang.make.compress.compare import Comparison
from mofang.make.compress.store import Variant, VariantStore
from mofang.make.register.store import Registry
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import AfterId, Body, Limit, OptionalReference, Page, Reference, Submitted, page


class VariantBody(Body):
    """Which version to compress, and how much accuracy (a share of 1) it may lose."""

    version: Reference
    max_drop: float = Field(0.005, ge=0, le=1, allow_inf_nan=False)


class VariantView(BaseModel):
    """A variant; ``version`` is its number in the registry, 0 if it was refused."""

    id: str
    model: str
    parent: str
    technique: str
    digest: str
    dataset: str
    comparison: Comparison
    accepted: bool
    refusal: str
    version: int
    created_at: int


class Compress:
    """The routes of `compress`."""

    def __init__(self, variants: VariantStore, registry: Registry, jobs: JobStore, changes: Changes) -> None:
        self._variants = variants
        self._registry = registry
        self._jobs = jobs
        self._changes = changes

    def start_compression(self, body: VariantBody, who: Caller) -> Submitted:
        """Compress a version, as a job."""
        version = self._registry.get(VersionRef.parse(body.version))
        owner = self._registry.owner(version.model)
        with self._changes.record(
            who, "compression.start", str(version), of=owner, before=None, max_drop=str(body.max_drop)
        ) as entry:
            spec = {**body.model_dump(), "version": str(version)}
            job = self._jobs.submit("compress", spec, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def list_variants(
        self, version: OptionalReference = "", after: AfterId = "", limit: Limit = 100
    ) -> Page[VariantView]:
        """List variants, newest first; of one version, if ``version`` (MODEL[@VERSION]) is given."""
        parent = self._registry.get(VersionRef.parse(version)).digest if version else ""
        found = self._variants.list(parent, after, limit + 1)
        return page([_view(one) for one in found], limit, lambda one: one.id)


def router(variants: VariantStore, registry: Registry, jobs: JobStore, changes: Changes) -> APIRouter:
    """Make the router of `compress`."""
    api = Compress(variants, registry, jobs, changes)
    return table(
        "compress",
        Route("POST", "/variants", "make", api.start_compression, 202),
        Route("GET", "/variants", "read", api.list_variants),
    )


def _view(variant: Variant) -> VariantView:
    return VariantView(**{**asdict(variant), "comparison": variant.comparison}, accepted=variant.accepted)
