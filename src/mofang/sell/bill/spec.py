"""What a price book may say: every section, key, type and bound, as data.

The parser checks against these types. Amounts and percentages are texts, since money is never a float.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mofang.base.domain.usage import Meter

MAX_PER = 10**15
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})?$")]
Percent = Annotated[str, Meta(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$")]
Units = Annotated[int, Meta(ge=1, le=MAX_PER)]
Mode = Literal["graduated", "volume"]


class TierSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of ``tiers``: ``amount`` for the units of a period up to ``up_to``; without it: for all above."""

    amount: Amount
    up_to: Units | None = None


class PriceSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[price]]: what one meter costs, and where. It has an ``amount``, or ``tiers``, or a ``core_hour``."""

    meter: Meter
    endpoint: str = "*"
    model: str = "*"
    variant: str = "*"
    currency: str = ""
    per: Units | None = None
    package: Units | None = None
    free: Annotated[int, Meta(ge=0, le=MAX_PER)] = 0
    amount: Amount | None = None
    tiers: tuple[Mapping[str, Any], ...] = ()
    mode: Mode | None = None
    core_hour: Amount | None = None
    margin_percent: Percent | None = None


class TermsSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The top of the book, and of each [[tenant]]: what holds for an invoice as a whole."""

    currency: str = ""
    discount_percent: Percent = "0"
    minimum: Amount = "0"
    tax_percent: Percent = "0"


class BookSpec(TermsSpec, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole price book."""

    price: tuple[Mapping[str, Any], ...] = ()
    tenant: tuple[Mapping[str, Any], ...] = ()


class TenantSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[tenant]]: terms and prices of one tenant; what it does not say is as for everyone."""

    name: str
    currency: str = ""
    discount_percent: Percent | None = None
    minimum: Amount | None = None
    tax_percent: Percent | None = None
    price: tuple[Mapping[str, Any], ...] = ()


TAKES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("amount", "minimum", "core_hour"), 'text such as "0.50" with at most six decimals, since money is no float'
        ),
        **dict.fromkeys(
            ("discount_percent", "tax_percent", "margin_percent"), 'text such as "19" or "7.5", at most four decimals'
        ),
        "currency": 'text such as "EUR", an ISO 4217 code',
        "price": "tables, each written [[price]]",
        "tenant": "tables, each written [[tenant]]",
        "tiers": 'a list such as [{up_to = 1000, amount = "0.50"}, {amount = "0.40"}]',
    }
)
"""What a key takes, where the type alone does not say it well."""
