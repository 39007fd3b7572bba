"""Which model, and which variant of it, a digest is: what the registry knows and an event does not carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from mofang.base.domain.deployment import Revision
from mofang.base.domain.registry import ModelVersion
from mofang.make.compress.store import VariantStore
from mofang.make.register.store import Registry
from mofang.sell.bill.rating import Origin, Origins, Served

ORIGINAL = "original"
"""The variant of a version that was not made by compressing another."""


class RegistryOrigins:
    """Tells origins from the registry. Versions never change, so each is asked for once.

    ``everywhere`` opens the stores for all there is: what is priced does not depend on who looks. ``revisions`` returns
    those of an endpoint.
    """

    def __init__(
        self,
        registry: Registry,
        variants: VariantStore,
        revisions: Callable[[str], Iterable[Revision]],
        everywhere: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._registry = registry
        self._variants = variants
        self._revisions = revisions
        self._everywhere = everywhere
        self._known: dict[Served, Origin] = {}

    def __call__(self, versions: Iterable[Served]) -> Origins:
        """Return the origins of ``versions``; one the registry does not know is left out."""
        wanted = set(versions)
        with self._everywhere():
            for version in wanted - self._known.keys():
                found = self._find(*version)
                if found is not None:
                    self._known[version] = Origin(found.model, self._variant(found))
        return {version: self._known[version] for version in wanted if version in self._known}

    def variants(self, versions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Return the variants of ``versions`` (digest, number), as far as the registry knows them."""
        found = self(Served("", *version) for version in versions)
        return {(version.digest, version.version): origin.variant for version, origin in found.items()}

    def _find(self, endpoint: str, digest: str, number: int) -> ModelVersion | None:
        """Return the version of that number: of the model that the endpoint served, if several have the same files."""
        found = [version for version in self._registry.find_digest(digest) if version.number == number]
        if len(found) < 2 or not endpoint:
            return next(iter(found), None)
        shown = {it.model for it in self._revisions(endpoint) if (it.digest, it.version) == (digest, number)}
        return next((version for version in found if version.model in shown), None)

    def _variant(self, version: ModelVersion) -> str:
        if version.variant:
            return version.variant
        parent = version.lineage.parent
        if not parent:
            return ORIGINAL
        made = (variant for variant in self._variants.list(parent) if variant.digest == version.digest)
        return next((variant.technique for variant in made), "compressed")
