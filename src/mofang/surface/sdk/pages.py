"""Lists that come in pages, walked as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mofang.surface.sdk.transport import Transport

T = TypeVar("T")
PAGE = 1000  # items asked for at a time, at most: what the server allows


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some items, and the cursor of those that follow (None: these are the last)."""

    items: list[T]
    next: str | int | None = None


def walk(
    wire: Transport,
    path: str,
    kind: type[T],
    query: Mapping[str, Any] | None = None,
    *,
    after: str | int | None = None,
    limit: int | None = None,
) -> Iterator[T]:
    """Yield the items of a list, ``limit`` at most, fetching page after page as they are asked for."""
    page_of: type[Page[T]] = Page[kind]  # type: ignore[valid-type]
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = wire.get(path, page_of, {**(query or {}), "limit": size, "after": after})
        yield from page.items
        if page.next is None:
            return
        after = page.next
        left = None if left is None else left - len(page.items)
