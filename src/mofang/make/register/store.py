"""The registry: models, their immutable versions, and the aliases that point at them.

Called by the pipeline (register), the control API and deployments (get, folder). A version's manifest is kept whole as
canonical JSON and sealed; reading checks both the seal and the artifact's digest, so that a row somebody edited in the
database is found before anything is served from it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
)

from mofang.base.domain.access import Scope
from mofang.base.domain.errors import DigestMismatch, InvalidName, ModelNotFound, NameTaken, VersionNotFound
from mofang.base.domain.names import VersionRef, check_name, now_us
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion, canonical_json
from mofang.base.storage.blobs import Blobs
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, owner, owns, visible

models = Table(
    "models",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
versions = Table(
    "versions",
    metadata,
    Column("model", ForeignKey(models.c.name), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(80), nullable=False, index=True),
    Column("manifest", Text, nullable=False),
    Column("seal", String(64), nullable=False),
    UniqueConstraint("model", "digest"),
)
aliases = Table(
    "aliases",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("alias", String(63), primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["model", "number"], [versions.c.model, versions.c.number]),
)
variants = Table(
    "version_variants",
    metadata,
    Column("model", String(63), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(63), primary_key=True),
    Column("digest", String(80), nullable=False, index=True),
    Column("manifest", Text, nullable=False),
    Column("seal", String(64), nullable=False),
    ForeignKeyConstraint(["model", "number"], [versions.c.model, versions.c.number]),
    UniqueConstraint("model", "number", "digest"),
)

_GREATEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Model:
    """A model as lists show it."""

    name: str
    created_at: int
    versions: int  # how many
    newest: int
    aliases: dict[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is kept of a version, whole; its aliases move, and are kept elsewhere."""

    model: str
    number: int
    artifact: Artifact
    lineage: Lineage
    created_at: int
    metrics: dict[str, float] = field(default_factory=dict)
    variant: str = ""


@dataclass(frozen=True, slots=True)
class NewVariant:
    """A variant to register: its name among those of its version, what it is, where it came from, what it reaches."""

    name: str
    artifact: Artifact
    lineage: Lineage
    metrics: dict[str, float] = field(default_factory=dict)


class Registry:
    """Versions in the database, their files in blobs."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    def register(
        self, model: str, artifact: Artifact, lineage: Lineage, metrics: dict[str, float] | None = None
    ) -> tuple[ModelVersion, bool]:
        """Register ``artifact`` as the next version of ``model``; return it and whether it is new.

        The same artifact again gives the version there already is, unchanged, and False.
        Raises InvalidName, or NameTaken.
        """
        check_name("model", model)
        with self._database.write() as connection:
            self._owner(connection, model)
            known = connection.execute(
                select(versions).where(versions.c.model == model, versions.c.digest == artifact.digest)
            ).first()
            if known is not None:
                return self._versions(connection, [known])[0], False
            newest = connection.execute(select(func.max(versions.c.number)).where(versions.c.model == model)).scalar()
            manifest = Manifest(model, (newest or 0) + 1, artifact, lineage, now_us(), metrics or {})
            if newest is None:
                connection.execute(insert(models).values(name=model, created_at=manifest.created_at))
                claim(connection, self._database.scope, "model", model)
            key = {"model": model, "number": manifest.number, "digest": artifact.digest}
            connection.execute(insert(versions).values(**key, **_sealed(manifest)))
        return _version(manifest, artifact.digest, ()), True

    def register_variants(self, version: ModelVersion, made: Iterable[NewVariant]) -> list[ModelVersion]:
        """Register variants of ``version``, all or none; return them as they are registered then.

        One whose artifact is registered as a variant of it already stays what it is; a name that is taken by another
        artifact gets a number.
        """
        with self._database.write() as connection:
            mine = (variants.c.model == version.model) & (variants.c.number == version.number)
            for each in made:
                known = {row.name: row.digest for row in connection.execute(select(variants).where(mine))}
                if each.artifact.digest in known.values():
                    continue
                name = check_name("variant", _free(each.name, known))
                manifest = Manifest(
                    version.model, version.number, each.artifact, each.lineage, now_us(), each.metrics, name
                )
                key = {"model": version.model, "number": version.number, "name": name}
                connection.execute(insert(variants).values(**key, digest=each.artifact.digest, **_sealed(manifest)))
            return self.list_variants(version)

    def list_variants(self, version: ModelVersion) -> list[ModelVersion]:
        """Return the variants of a version, by name."""
        mine = (variants.c.model == version.model) & (variants.c.number == version.number)
        with self._database.read() as connection:
            rows = connection.execute(select(variants).where(mine).order_by(variants.c.name))
            return [_version(_manifest(row), row.digest, ()) for row in rows]

    def get(self, ref: VersionRef) -> ModelVersion:
        """Return the version or variant ``ref`` names.

        Raises ModelNotFound, VersionNotFound, or DigestMismatch if it was edited.
        """
        with self._database.read() as connection:
            row = connection.execute(_query(ref).where(self._visible(versions.c.model))).first()
            if row is None:
                self._check_model(connection, ref.model)
                raise VersionNotFound(f"model {ref.model!r} has no version or alias {ref.selector!r}")
            found = self._versions(connection, [row])[0]
            return self._variant(connection, found, ref.variant) if ref.variant else found

    def find(self, ref: VersionRef) -> ModelVersion | None:
        """Return the version ``ref`` names, or None."""
        try:
            return self.get(ref)
        except (ModelNotFound, VersionNotFound):
            return None

    def find_digest(self, digest: str) -> list[ModelVersion]:
        """Return every version and variant, of any model, whose artifact's digest is ``digest``, or begins so."""
        mine = self._visible(versions.c.model)
        until = digest + "g"  # after every hexadecimal digit
        query = select(versions).where(versions.c.digest.between(digest, until), mine).order_by(versions.c.model)
        apart = select(variants).where(variants.c.digest.between(digest, until), self._visible(variants.c.model))
        with self._database.read() as connection:
            rows = connection.execute(apart.order_by(variants.c.model, variants.c.number))
            small = [_version(_manifest(row), row.digest, ()) for row in rows]
            return [*self._versions(connection, connection.execute(query)), *small]

    def list_models(self, after: str = "", limit: int = 100) -> list[Model]:
        """Return models by name, those that come after ``after``."""
        counts = (
            select(models.c.name, models.c.created_at, func.count(), func.max(versions.c.number))
            .join(versions, versions.c.model == models.c.name)
            .where(models.c.name > after, self._visible(models.c.name))
            .group_by(models.c.name, models.c.created_at)
            .order_by(models.c.name)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(counts).all()
            pointing: dict[str, dict[str, int]] = defaultdict(dict)
            named = select(aliases).where(aliases.c.model.in_([row.name for row in rows])).order_by(aliases.c.alias)
            for row in connection.execute(named):
                pointing[row.model][row.alias] = row.number
        return [Model(name, at, count, newest, pointing[name]) for name, at, count, newest in rows]

    def list_versions(self, model: str, before: int = 0, limit: int = 100) -> list[ModelVersion]:
        """Return versions of ``model``, newest first, those below number ``before`` if given; raise ModelNotFound."""
        query = select(versions).where(versions.c.model == model).order_by(versions.c.number.desc()).limit(limit)
        if before:
            query = query.where(versions.c.number < before)
        with self._database.read() as connection:
            self._check_model(connection, model)
            return self._versions(connection, connection.execute(query))

    def set_alias(self, model: str, alias: str, number: int) -> ModelVersion:
        """Point ``alias`` at a version, from wherever it pointed; raise InvalidName or VersionNotFound."""
        check_name("alias", alias)
        if alias.isdecimal():
            raise InvalidName(
                f"alias {alias!r} of model {model!r} looks like a version number", hint="use a word, e.g. `champion`"
            )
        with self._database.write() as connection:
            self.get(VersionRef(model, str(number)))
            connection.execute(delete(aliases).where(aliases.c.model == model, aliases.c.alias == alias))
            connection.execute(insert(aliases).values(model=model, alias=alias, number=number))
            return self.get(VersionRef(model, str(number)))

    def owner(self, model: str) -> Scope:
        """Return the project to which a version of ``model`` would belong, there already or not; raise NameTaken."""
        with self._database.read() as connection:
            return self._owner(connection, model)

    def folder(self, version: ModelVersion, root: Path) -> Path:
        """Lay the artifact's files, verified, into ``root/<digest hex>`` and return that folder."""
        folder = root / version.digest.removeprefix("sha256:")
        return self._blobs.materialise(version.artifact.files, folder)

    def _variant(self, connection: Connection, version: ModelVersion, name: str) -> ModelVersion:
        key = (variants.c.model == version.model, variants.c.number == version.number, variants.c.name == name)
        row = connection.execute(select(variants).where(*key)).first()
        if row is None:
            raise VersionNotFound(f"{version} has no variant {name!r}", hint=f"`mofang variants {version}` shows them")
        return _version(_manifest(row), row.digest, ())

    def _owner(self, connection: Connection, model: str) -> Scope:
        if connection.execute(select(models.c.name).where(models.c.name == model)).first() is None:
            return self._database.scope.narrowed()
        if not owns(connection, self._database.scope, "model", model):
            raise NameTaken(f"the name {model!r} is taken by a model of another project")
        return owner(connection, "model", model) or self._database.scope.narrowed()

    def _check_model(self, connection: Connection, model: str) -> None:
        query = select(models.c.name).where(models.c.name == model, self._visible(models.c.name))
        if connection.execute(query).first() is None:
            raise ModelNotFound(f"there is no model {model!r}")

    def _visible(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        return visible(self._database.scope, "model", column)

    def _versions(self, connection: Connection, rows: Iterable[Row[Any]]) -> list[ModelVersion]:
        found = [(_manifest(row), row.digest) for row in rows]
        names = {manifest.model for manifest, _ in found}
        pointing: dict[tuple[str, int], list[str]] = defaultdict(list)
        for row in connection.execute(select(aliases).where(aliases.c.model.in_(names)).order_by(aliases.c.alias)):
            pointing[row.model, row.number].append(row.alias)
        return [_version(it, digest, tuple(pointing[it.model, it.number])) for it, digest in found]


def _query(ref: VersionRef) -> Select[Any]:
    query = select(versions).where(versions.c.model == ref.model)
    if not ref.selector:
        return query.order_by(versions.c.number.desc()).limit(1)
    if ref.number is not None:
        return query.where(versions.c.number == min(ref.number, _GREATEST_NUMBER))
    joint = (aliases.c.model == versions.c.model) & (aliases.c.number == versions.c.number)
    return query.join(aliases, joint).where(aliases.c.alias == ref.selector)


def _free(name: str, taken: Container[str]) -> str:
    """Return ``name``, or what it is called if others have it."""
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(each for each in numbered if each not in taken)


def _sealed(manifest: Manifest) -> dict[str, str]:
    text = canonical_json(asdict(manifest))
    return {"manifest": text.decode(), "seal": hashlib.sha256(text).hexdigest()}


def _manifest(row: Row[Any]) -> Manifest:
    """Read a row, if it is as it was written; raise DigestMismatch otherwise."""
    where = f"version {row.number} of model {row.model!r}"
    if hashlib.sha256(row.manifest.encode()).hexdigest() != row.seal:
        raise DigestMismatch(f"the manifest of {where} was changed in the database")
    manifest = msgspec.json.decode(row.manifest, type=Manifest)
    if (manifest.artifact.digest, manifest.model, manifest.number) != (row.digest, row.model, row.number):
        raise DigestMismatch(f"{where} does not have the digest it is registered under")
    return manifest


def _version(manifest: Manifest, digest: str, pointing: tuple[str, ...]) -> ModelVersion:
    return ModelVersion(
        model=manifest.model,
        number=manifest.number,
        digest=digest,
        artifact=manifest.artifact,
        lineage=manifest.lineage,
        created_at=manifest.created_at,
        metrics=manifest.metrics,
        aliases=pointing,
        variant=manifest.variant,
    )
