"""The registry: models, versions, aliases."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from mofang.base.domain.errors import BlobNotFound, GateFailed, InvalidName, VersionNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import FileEntry, ModelVersion, check_files
from mofang.base.domain.tensors import Datatype
from mofang.base.jobs.store import JobStore
from mofang.base.storage.owners import Owners
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.register.store import Model, Registry
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes, Owned
from mofang.surface.api.fields import (
    MAX_NUMBER,
    NEWEST,
    AfterName,
    Body,
    Limit,
    ModelName,
    Number,
    Page,
    Selector,
    Submitted,
    Text,
    Word,
    page,
    version_of,
)

"""In a path, the selector of a model's newest version; no alias may have this name."""

Digest = Annotated[
    str, Query(pattern=r"^sha256:[0-9a-f]{8,64}$", description="a digest of usage or an invoice, or how it begins")
]
AfterVersion = Annotated[Text, Query(max_length=150, description="cursor: `next` of the page before")]
BeforeNumber = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="cursor: `next` of the page before")]


class FileBody(Body):
    """A file that was uploaded: its path inside the artifact, SHA-256 (hex) and size."""

    path: Text = Field(min_length=1, max_length=500)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=0, le=2**53)


class WishesBody(Body):
    """What the one who pushes says of a model, where its files do not."""

    allow_pickle: bool = False
    architecture: str = Field(default="", max_length=200)
    input_shape: list[Annotated[int, Field(ge=1, le=1 << 20)]] = Field(default_factory=list, max_length=8)
    labels: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default_factory=list, max_length=100_000)
    rename: dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=1000
    )
    meanings: dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=dict, max_length=1000
    )
    datatypes: dict[Annotated[str, Field(max_length=200)], Datatype] = Field(default_factory=dict, max_length=1000)
    shapes: dict[
        Annotated[str, Field(max_length=200)],
        Annotated[list[Annotated[int, Field(ge=-1, le=1 << 20)]], Field(max_length=8)],
    ] = Field(default_factory=dict, max_length=1000)


class VersionBody(Body):
    """Uploaded files; their format is recognised, or an engine named that is to load them as they are."""

    files: list[FileBody] = Field(min_length=1, max_length=1000)
    engine: str = Field("", pattern=r"^[a-z0-9_]{0,40}$")
    wishes: WishesBody = Field(default_factory=WishesBody)
    parent: int = Field(default=0, ge=0, le=MAX_NUMBER, description="the version whose signature is edited; 0: none")


class AliasBody(Body):
    """The number of the version an alias is to point to; ``force``: even if it did not pass its newest gate."""

    version: Number
    force: bool = False


class Register:
    """The routes of `register`."""

    def __init__(
        self, registry: Registry, evaluations: EvaluationStore, jobs: JobStore, owners: Owners, changes: Changes
    ) -> None:
        self._registry = registry
        self._evaluations = evaluations
        self._jobs = jobs
        self._owners = owners
        self._changes = changes

    def list_models(self, after: AfterName = "", limit: Limit = 100) -> Page[Model]:
        """List models by name."""
        return page(self._registry.list_models(after, limit + 1), limit, lambda model: model.name)

    def get_model(self, name: ModelName) -> Model:
        """Return a model by its name."""
        self._registry.get(VersionRef(name))  # raises ModelNotFound
        return next(model for model in self._registry.list_models(limit=MAX_NUMBER) if model.name == name)

    def list_versions(self, name: ModelName, after: BeforeNumber = 0, limit: Limit = 100) -> Page[ModelVersion]:
        """List versions of a model, newest first."""
        return page(self._registry.list_versions(name, after, limit + 1), limit, lambda version: version.number)

    def get_version(self, name: ModelName, selector: Selector) -> ModelVersion:
        """Return a version by number or alias; ``newest`` is the newest. ``NUMBER+VARIANT`` is a variant of it."""
        return self._registry.get(version_of(name, selector))

    def find_versions(self, digest: Digest, after: AfterVersion = "", limit: Limit = 100) -> Page[ModelVersion]:
        """Return every version and variant with a digest; the lineage of a variant names what it was made of."""
        found = sorted(self._registry.find_digest(digest), key=str)
        return page([it for it in found if str(it) > after], limit, str)

    def create_version(self, name: ModelName, body: VersionBody, who: Caller) -> Submitted:
        """Recognise uploaded files, convert them, and register them as a version, as a job."""
        check_files(FileEntry(**file.model_dump()) for file in body.files)
        for file in body.files:
            if not self._owners.has("upload", file.sha256):
                raise BlobNotFound(f"no upload has the digest {file.sha256!r}")
        owner = self._registry.owner(name)
        spec = {"model": name, **body.model_dump()}
        with self._changes.record(who, "version.push", name, of=owner, before=None, files=spec["files"]) as entry:
            job = self._jobs.submit("push", spec, who.key_id, owner)
            entry.after = {"job": job.id}
        return Submitted(job=job.id)

    def set_alias(self, name: ModelName, alias: Word, body: AliasBody, who: Caller) -> ModelVersion:
        """Point an alias to a version."""
        if alias == NEWEST:
            raise InvalidName(f"{NEWEST!r} is always the newest version", hint="choose another alias, e.g. champion")
        version = self._registry.get(VersionRef(name, str(body.version)))
        newest = next(iter(self._evaluations.list(version.digest, limit=1)), None)
        if newest and not newest.report.passed and not body.force:
            raise GateFailed(
                f"{version} did not pass its gate: {'; '.join(newest.report.failures)}",
                hint="evaluate it again with a gate it passes, or promote it all the same with `--force`",
            )
        target, of = f"{name}@{alias}", Owned("model", name)
        pointed = {"version": version.number, "digest": version.digest}
        with self._changes.record(
            who, "alias.set", target, of=of, before=self._pointed(name, alias), after=pointed, force=body.force
        ):
            return self._registry.set_alias(name, alias, body.version)

    def _pointed(self, name: str, alias: str) -> dict[str, object] | None:
        """Return what an alias points to, if there is one."""
        try:
            found = self._registry.get(VersionRef(name, alias))
        except VersionNotFound:
            return None
        return {"version": found.number, "digest": found.digest}


def router(
    registry: Registry, evaluations: EvaluationStore, jobs: JobStore, owners: Owners, changes: Changes
) -> APIRouter:
    """Make the router of `register`."""
    api = Register(registry, evaluations, jobs, owners, changes)
    versions = "/models/{name}/versions"
    return table(
        "register",
        Route("GET", "/models", "read", api.list_models),
        Route("GET", "/models/{name}", "read", api.get_model),
        Route("GET", versions, "read", api.list_versions),
        Route("GET", "/versions", "read", api.find_versions),
        Route("POST", versions, "make", api.create_version, 202),
        Route("GET", f"{versions}/{{selector}}", "read", api.get_version),
        Route("PUT", "/models/{name}/aliases/{alias}", "make", api.set_alias),
    )
