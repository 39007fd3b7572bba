"""Data: the datasets that recipes have prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class Dataset:
    """Prepared data: what it was read from, rows of every split, and the schema of its features and labels."""

    digest: str
    name: str
    source: str
    task: str
    created_at: int
    splits: Mapping[str, int] = field(default_factory=dict)  # split -> rows
    schema: Mapping[str, Any] = field(default_factory=dict)


class Prepare:
    """``client.prepare``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list_datasets(self, *, limit: int | None = 100) -> list[Dataset]:
        """Return the newest datasets first."""
        return [*walk(self._wire, "/datasets", Dataset, limit=limit)]

    def get_dataset(self, digest: str) -> Dataset:
        """Return a dataset by its digest."""
        return self._wire.get(f"/datasets/{segment(digest)}", Dataset)
