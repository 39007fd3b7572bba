"""A base with an adapter, as a variant of the base: what is metered and paid where a request names the adapter."""

from __future__ import annotations

from dataclasses import replace

from mofang.base.domain.deployment import Adapter
from mofang.base.domain.errors import AdapterRefused
from mofang.base.domain.names import VersionRef, check_name
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion
from mofang.base.engines.adapters import ENGINE, INSIDE, check_takes
from mofang.make.register.store import NewVariant, Registry


def attach(registry: Registry, base: ModelVersion, name: str, ref: VersionRef) -> Adapter:
    """Register ``base`` with the adapter ``ref`` as a variant called ``name``, once.

    Its digest covers every byte of both, and is what an answer is metered under; its lineage names the digest of each.

    Raises InvalidName, ModelNotFound, VersionNotFound, or AdapterRefused for what is none, or where none is taken.
    """
    check_name("adapter", name)
    check_takes(base.artifact.engine, [name])
    if base.variant:
        raise AdapterRefused(f"{base} is a variant", hint="adapters are laid over versions")
    adapter = registry.get(ref)
    if adapter.artifact.engine != ENGINE:
        raise AdapterRefused(f"{adapter} is no adapter, but a model of its own", hint="push the folder PEFT saved")
    check_takes(base.artifact.engine, [name], [entry.path for entry in adapter.artifact.files])
    laid = [replace(entry, path=f"{INSIDE}/{entry.path}") for entry in adapter.artifact.files]
    files = sorted((*base.artifact.files, *laid), key=lambda entry: entry.path)
    whole = Artifact(base.artifact.engine, tuple(files), base.artifact.signature, base.artifact.labels)
    lineage = Lineage("adapt", parent=base.digest, steps=f"adapter {adapter}", adapter=adapter.digest)
    made = registry.register_variants(base, [NewVariant(name, whole, lineage)])
    variant = next(each.variant for each in made if each.digest == whole.digest)
    return Adapter(str(adapter), whole.digest, variant)
