"""Which model, and which variant of it, a digest is: what the registry knows and an event does not carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from mofang.base.domain.registry import ModelVersion
from mofang.make.compress.store import VariantStore
from mofang.make.register.store import Registry
from mofang.sell.bill.rating import Origin, Origins

ORIGINAL = "original"
"""The variant of a version that was not made by compressing another."""


class RegistryOrigins:
    """Tells origins from the registry. Versions never change, so each is asked for once.

    ``everywhere`` opens the stores for all there is: what is priced does not depend on who looks.
    """

    def __init__(
        self, registry: Registry, variants: VariantStore, everywhere: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._registry = registry
        self._variants = variants
        self._everywhere = everywhere
        self._known: dict[tuple[str, int], Origin] = {}

    def __call__(self, versions: Iterable[tuple[str, int]]) -> Origins:
        """Return the origins of ``versions`` (digest, number); one the registry does not know is left out."""
        wanted = set(versions)
        with self._everywhere():
            for version in wanted - self._known.keys():
                found = self._find(*version)
                if found is not None:
                    self._known[version] = Origin(found.model, self._variant(found))
        return {version: self._known[version] for version in wanted if version in self._known}

    def variants(self, versions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """Return the variants of ``versions`` (digest, number), as far as the registry knows them."""
        return {version: origin.variant for version, origin in self(versions).items()}

    def _find(self, digest: str, number: int) -> ModelVersion | None:
        """Return the version of that number; the same files may be a version of another model under another."""
        versions = self._registry.find_digest(digest)
        return next((version for version in versions if version.number == number), None)

    def _variant(self, version: ModelVersion) -> str:
        if version.variant:
            return version.variant
        parent = version.lineage.parent
        if not parent:
            return ORIGINAL
        made = (variant for variant in self._variants.list(parent) if variant.digest == version.digest)
        return next((variant.technique for variant in made), "compressed")
