"""The types of what comes in: names, ids, texts, cursors, times; checked at the edge, so that no store has to.

Bodies are strict and refuse unknown fields. Every number is bounded by what a database column holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mofang.base.domain.errors import InvalidRequest
from mofang.base.domain.names import VersionRef, check_name
from mofang.base.domain.users import check_user_name
from mofang.base.identity.addresses import check_network

T = TypeVar("T")
MAX_NUMBER = 2**31 - 1  # revisions and versions
MAX_AT = 253_402_300_800_000_000  # the year 10000, in microseconds
MAX_WAIT_SECONDS = 30.0
NEWEST = "newest"  # the selector of the newest version, in a path
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what no database takes as text


class Body(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Page(BaseModel, Generic[T]):
    """Some items of a list, and the cursor to go on with (``after``); null at the end."""

    items: list[T]
    next: str | int | None = None


class Submitted(BaseModel):
    """The job a request became."""

    job: str


def page(found: Sequence[T], limit: int, cursor: Callable[[T], str | int]) -> Page[T]:
    """Make the page of a store's answer that was asked for ``limit + 1`` items."""
    items = list(found[:limit])
    return Page(items=items, next=cursor(items[-1]) if len(found) > limit else None)


def _name(kind: str) -> AfterValidator:
    return AfterValidator(lambda value: check_name(kind, value))


def _text(value: str) -> str:
    if _UNSTORABLE.search(value):
        raise InvalidRequest("a text cannot hold the character U+0000, nor half of a surrogate pair")
    return value


def reference(value: str) -> str:
    """Return ``value`` if it is MODEL[@VERSION[+VARIANT]]; else raise InvalidName."""
    VersionRef.parse(value)
    return value


def version_of(name: str, selector: str) -> VersionRef:
    """Return what a path with a model's name and a selector means; ``newest`` is the newest version."""
    ref = VersionRef.parse(f"{name}@{selector}")
    return replace(ref, selector="") if ref.selector == NEWEST else ref


def _optional_reference(value: str) -> str:
    return value and reference(value)


ModelName = Annotated[str, _name("model")]
EndpointName = Annotated[str, _name("endpoint")]
ProjectName = Annotated[str, _name("project")]
TenantName = Annotated[str, _name("tenant")]
UserName = Annotated[str, AfterValidator(check_user_name)]
Selector = Annotated[str, AfterValidator(lambda value: reference(f"model@{value}").partition("@")[2])]
Word = Annotated[str, _name("version or alias")]
Reference = Annotated[str, AfterValidator(reference)]  # MODEL[@VERSION[+VARIANT]]
Text = Annotated[str, AfterValidator(_text)]
Network = Annotated[str, AfterValidator(check_network)]  # CIDR
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
At = Annotated[int, Field(ge=0, le=MAX_AT)]

_ID = r"^[A-Za-z0-9_.:-]{1,100}$"
Id = Annotated[str, Path(pattern=_ID)]
"""An id or digest in a path."""
Limit = Annotated[int, Query(ge=1, le=1000, description="items at most")]
AfterId = Annotated[str, Query(pattern=r"^[A-Za-z0-9_.:-]{0,100}$", description="cursor: `next` of the page before")]
AfterName = Annotated[Text, Query(max_length=63, description="cursor: `next` of the page before")]
AfterNumber = Annotated[int, Query(ge=0, le=2**53, description="cursor: `next` of the page before")]
STILL = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
"""Headers of a page or a picture: no script runs in it."""
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False, description="seconds to wait for news")]

OptionalReference = Annotated[str, Query(description="MODEL[@VERSION]"), AfterValidator(_optional_reference)]
JobKind = Annotated[str | None, Query(pattern=r"^[a-z_]{1,40}$", description="kind of job, e.g. train")]
