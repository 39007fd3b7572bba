"""An invoice, or what one would say now, as cost and usage data in the FOCUS format, version 1.2. Pure.

FOCUS (FinOps Open Cost and Usage Specification, https://focus.finops.org) names the columns that tools for the costs of
many providers read. A row is a charge: a line of usage becomes one for every version that used it and every step of
its price; discounts, minimums, tax and what is given back are rows of their own, and so is usage without a price, which
costs nothing. ``BilledCost`` adds up to the total, to the micro-unit. Prices of a tenant's own are her list prices:
there are no others she could compare them with.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from mofang.base.domain.money import MICROS, round_half_even
from mofang.base.domain.registry import canonical_json
from mofang.sell.bill.charge import Step
from mofang.sell.bill.invoice import Document
from mofang.sell.bill.rating import InvoiceLine, Part
from mofang.sell.meter.windows import DAY_US, MAX_AT, describe, month_of, next_month

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency",
    "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost", "ListUnitPrice",
    "PricingCategory", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName",
    "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails",
    "SkuPriceId", "x_Model", "x_Variant", "x_Version", "x_Digest",
)  # fmt: skip
"""All mandatory columns of FOCUS 1.2, those of its conditional and recommended ones that apply, and four of our own."""

_UNITS: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "requests": ("Requests", 1),
        "rows": ("Rows", 1),
        "input_tokens": ("Tokens", 1),
        "output_tokens": ("Tokens", 1),
        "cached_tokens": ("Tokens", 1),
        "batch_requests": ("Requests", 1),
        "batch_input_tokens": ("Tokens", 1),
        "batch_output_tokens": ("Tokens", 1),
        "batch_cached_tokens": ("Tokens", 1),
        "audio_seconds": ("Seconds", 1),
        "compute_us": ("Seconds", 1_000_000),
        "images": ("Images", 1),
        "input_bytes": ("B", 1),
        "output_bytes": ("B", 1),
    }
)
"""The unit of each meter in FOCUS' unit format, and how many units of the meter it is."""
_CATEGORIES: Mapping[str, str] = MappingProxyType(
    {"discount": "Credit", "minimum": "Adjustment", "adjustment": "Adjustment", "credit": "Credit"}
)
_DIGITS = 18  # of a decimal, after the point: what does not end sooner is cut there
_PICO = 10**_DIGITS

Row = dict[str, str]


class _Share(NamedTuple):
    """What one version used at one step of a price: units it used, and units that are charged for them."""

    part: Part
    step: Step
    used: int
    charged: int


def focus_csv(document: Document, seller: str, buyer: str, number: str = "") -> str:
    """Return ``document`` as FOCUS in CSV; ``number`` is its number, if it was issued. Null is the empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(focus_rows(document, seller, buyer, number))
    return out.getvalue()


def focus_rows(document: Document, seller: str, buyer: str, number: str = "") -> Iterator[Row]:
    """Yield the charges of ``document``, columns that are null left out."""
    common = _common(document, seller or "Mofang", buyer, number)
    for line in document.lines:
        rows = _usage(line) if line.kind == "usage" else [_other(document, line)]
        for row in rows:
            yield common | row
    for row in _unpriced(document):
        yield common | row
    if document.tax.micros:
        yield common | _tax(document)


def _common(document: Document, seller: str, buyer: str, number: str) -> Row:
    row = {
        "BillingAccountId": document.tenant,
        "BillingAccountName": buyer or document.tenant,
        "BillingAccountType": "Tenant",
        "BillingCurrency": document.currency,
        "BillingPeriodStart": describe(month_of(document.start)),
        "BillingPeriodEnd": describe(_end_of_month(document.end - 1)),
        "InvoiceIssuerName": seller,
        "ProviderName": seller,
        "PublisherName": seller,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Model inference",
        "ServiceSubcategory": "Machine Learning",
    }
    return row | {"InvoiceId": number} if number else row


def _usage(line: InvoiceLine) -> Iterator[Row]:
    """Yield a charge for each share of a line; each is rounded so that they add up to the line."""
    exact = Fraction(0)
    for share in _shares(line):
        before = round_half_even(exact)
        exact += Fraction(share.charged * share.step.unit_micros, share.step.per)
        billed = Fraction(round_half_even(exact) - before, MICROS)
        yield _used(line.start, line.end, line.scope.meter, share, billed, line.price_book)


def _unpriced(document: Document) -> Iterator[Row]:
    """Yield what was used and has no price: it costs nothing."""
    for it in document.unrated:
        share = _Share(Part(it.endpoint, it.version, it.digest, "", "", it.quantity), Step(0, 1, 0), it.quantity, 0)
        yield _used(document.start, document.end, it.meter, share, Fraction(0), 0)


def _used(start: int, end: int, meter: str, share: _Share, billed: Fraction, price_book: int) -> Row:
    part, step = share.part, share.step
    unit, size = _UNITS[meter]
    price = Fraction(step.unit_micros * size, step.per * MICROS)
    quantity = Fraction(share.charged, size)
    sku = f"{part.model or part.endpoint}/{part.variant or 'any'}/{meter}"
    return _charge(start, end, "Usage", "Usage-Based", billed, price * quantity) | {
        "ChargeDescription": f"{meter} of endpoint {part.endpoint}",
        "ConsumedQuantity": _decimal(Fraction(share.used, size)),
        "ConsumedUnit": unit,
        "ContractedUnitPrice": _decimal(price),
        "ListUnitPrice": _decimal(price),
        "PricingCategory": "Standard" if price_book else "Other",
        "PricingQuantity": _decimal(quantity),
        "PricingUnit": unit,
        "ResourceId": part.endpoint,
        "ResourceName": part.endpoint,
        "ResourceType": "Endpoint",
        "SkuId": sku,
        "SkuMeter": meter,
        "SkuPriceDetails": canonical_json({"x_Per": step.per, "x_PriceBook": price_book}).decode(),
        "SkuPriceId": f"{sku}@{price_book}",
        "x_Model": part.model,
        "x_Variant": part.variant,
        "x_Version": str(part.version),
        "x_Digest": part.digest,
    }


def _shares(line: InvoiceLine) -> Iterator[_Share]:
    """Lay the parts of a line along the steps of its price. What packages were begun for is charged to the last."""
    steps = [*line.steps]
    step = steps.pop(0)
    left = step.quantity
    for part in line.parts:
        used = part.quantity
        while used > left and steps:
            if left:
                yield _Share(part, step, left, left)
            used -= left
            step = steps.pop(0)
            left = step.quantity
        if used:
            yield _Share(part, step, used, min(used, left))
            left -= min(used, left)
    for rest, charged in ((step, left), *((each, each.quantity) for each in steps)):
        if charged:
            yield _Share(line.parts[-1], rest, 0, charged)


def _other(document: Document, line: InvoiceLine) -> Row:
    """Return the charge of a line that has no usage of its own: it is what it is, at any price."""
    billed = Fraction(line.amount_micros, MICROS)
    row = _charge(line.start, line.end, _CATEGORIES[line.kind], "One-Time", billed, billed)
    if line.kind in ("adjustment", "credit"):
        row["ChargeClass"] = "Correction"
    of = f" of lines {', '.join(map(str, line.of))}" if line.of else ""
    return row | {"ChargeDescription": document.reason or f"{line.kind}{of}"}


def _tax(document: Document) -> Row:
    billed = Fraction(document.tax.micros, MICROS)
    row = _charge(document.start, document.end, "Tax", "One-Time", billed, billed)
    if document.kind == "credit_note":
        row["ChargeClass"] = "Correction"
    return row | {"ChargeDescription": "tax"}


def _charge(start: int, end: int, category: str, frequency: str, billed: Fraction, contracted: Fraction) -> Row:
    return {
        "BilledCost": _decimal(billed),
        "EffectiveCost": _decimal(billed),
        "ContractedCost": _decimal(contracted),
        "ListCost": _decimal(contracted),
        "ChargeCategory": category,
        "ChargeFrequency": frequency,
        "ChargePeriodStart": describe(start),
        "ChargePeriodEnd": describe(end),
    }


def _end_of_month(at: int) -> int:
    start = month_of(at)
    return MAX_AT if start + 31 * DAY_US >= MAX_AT else next_month(start)  # after the last month there is no next


def _decimal(exact: Fraction) -> str:
    """Write a number as FOCUS' numeric format has it: digits, and a point if it needs one."""
    sign, scaled = ("-" if exact < 0 else ""), round_half_even(abs(exact) * _PICO)
    whole, fraction = divmod(scaled, _PICO)
    return f"{sign}{whole}" + (f".{fraction:0{_DIGITS}d}".rstrip("0") if fraction else "")
