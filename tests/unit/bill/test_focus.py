"""FOCUS 1.2: every row has the columns, types and values that the specification asks for, and nothing is lost in it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.sell.bill.focus import COLUMNS, focus_csv, focus_rows
from mofang.sell.bill.invoice import Document, LateUsage, make_credit_note, make_invoice
from mofang.sell.bill.pricebook import ANY, Price, PriceBook, PriceScope, PublishedBook, Terms, Tier
from mofang.sell.bill.rating import Origin, Served
from mofang.sell.meter.windows import HOUR_US, UsageRow, month_of

START = month_of(1_793_534_400_000_000)
END = START + 10 * HOUR_US
METERS = ("requests", "rows", "compute_us", "input_tokens", "input_bytes")
SIZES = {"compute_us": 10**6}
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

# Columns of the specification, version 1.2: their type, and whether they may be null.
MANDATORY = {
    "BilledCost": ("decimal", False), "BillingAccountId": ("text", False), "BillingAccountName": ("text", True),
    "BillingCurrency": ("currency", False), "BillingPeriodEnd": ("time", False), "BillingPeriodStart": ("time", False),
    "ChargeCategory": ("text", False), "ChargeClass": ("text", True), "ChargeDescription": ("text", True),
    "ChargePeriodEnd": ("time", False), "ChargePeriodStart": ("time", False), "ContractedCost": ("decimal", False),
    "EffectiveCost": ("decimal", False), "InvoiceIssuerName": ("text", False), "ListCost": ("decimal", False),
    "PricingQuantity": ("decimal", True), "PricingUnit": ("text", True), "ProviderName": ("text", False),
    "PublisherName": ("text", False), "ServiceCategory": ("text", False), "ServiceName": ("text", False),
}  # fmt: skip
OTHERS = {
    "BillingAccountType": ("text", False), "ChargeFrequency": ("text", False), "ConsumedQuantity": ("decimal", True),
    "ConsumedUnit": ("text", True), "ContractedUnitPrice": ("decimal", True), "InvoiceId": ("text", True),
    "ListUnitPrice": ("decimal", True), "PricingCategory": ("text", True), "ResourceId": ("text", True),
    "ResourceName": ("text", True), "ResourceType": ("text", True), "ServiceSubcategory": ("text", False),
    "SkuId": ("text", True), "SkuMeter": ("text", True), "SkuPriceDetails": ("json", True),
    "SkuPriceId": ("text", True),
}  # fmt: skip
OF_USAGE = ("ConsumedQuantity", "ConsumedUnit", "ListUnitPrice", "ContractedUnitPrice", "PricingQuantity",
            "PricingUnit", "PricingCategory", "SkuId", "SkuPriceId", "ResourceId")  # fmt: skip

_rows = st.lists(
    st.builds(
        UsageRow,
        endpoint=st.sampled_from(["digits", "words"]),
        version=st.integers(1, 2),
        digest=st.sampled_from(["sha256:aa", "sha256:bb"]),
        meter=st.sampled_from(METERS),
        hour=st.integers(0, 9).map(lambda hour: START + hour * HOUR_US),
        quantity=st.integers(0, 10**9),
    ),
    max_size=20,
)


@st.composite
def _books(draw: st.DrawFn) -> PublishedBook:
    meters = draw(st.sets(st.sampled_from(METERS)))
    prices = []
    for meter in sorted(meters):
        bounds = sorted(draw(st.sets(st.integers(1, 10**9), max_size=2)))
        tiers = (
            *(Tier(bound, draw(st.integers(0, 10**7))) for bound in bounds),
            Tier(None, draw(st.integers(0, 10**7))),
        )
        per, mode = draw(st.sampled_from([1, 3, 1000])), draw(st.sampled_from(["graduated", "volume"]))
        free = draw(st.sampled_from([0, 5]))
        prices.append(Price(PriceScope(ANY, ANY, ANY, ANY, meter), "EUR", per, tiers, mode, free, draw(st.booleans())))
    discount, minimum, tax = (draw(st.sampled_from(it)) for it in ((0, 70_000), (0, 10**12), (0, 190_000)))
    return PublishedBook(1, 0, 0, PriceBook((Terms(ANY, "EUR", discount, minimum, tax),), tuple(prices), "sha256:1"))


ORIGINS = {
    Served(endpoint, digest, version): Origin("digits", variant)
    for endpoint in ("digits", "words")
    for digest, version, variant in (("sha256:aa", 1, "original"), ("sha256:bb", 2, "int8-dynamic"))
}


def invoice(rows: list[UsageRow], book: PublishedBook, late: list[LateUsage] | None = None) -> Document:
    return make_invoice("inv_1", "acme", START, END, rows, [book], START, ORIGINS, late or [])


def read(document: Document) -> list[dict[str, str]]:
    text = focus_csv(document, "Mofang GmbH", "Acme", "2026-0001")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows == [
        {**dict.fromkeys(COLUMNS, ""), **row} for row in focus_rows(document, "Mofang GmbH", "Acme", "2026-0001")
    ]
    return rows


def check(row: dict[str, str]) -> None:
    """Check a row against the specification."""
    for name, (kind, nullable) in (MANDATORY | OTHERS).items():
        value = row[name]
        if not value:
            assert nullable, f"{name} is null"
        elif kind == "decimal":
            assert NUMBER.fullmatch(value), (name, value)
        elif kind == "time":
            assert TIME.fullmatch(value), (name, value)
        elif kind == "currency":
            assert re.fullmatch("[A-Z]{3}", value)
        elif kind == "json":
            assert isinstance(json.loads(value), dict)
    usage = row["ChargeCategory"] == "Usage"
    assert row["ChargeCategory"] in ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
    assert row["ChargeClass"] in ("", "Correction")
    assert row["PricingCategory"] in ("", "Standard", "Dynamic", "Committed", "Other")
    assert row["ChargeFrequency"] in ("One-Time", "Recurring", "Usage-Based")
    assert bool(row["PricingQuantity"]) == bool(row["PricingUnit"])
    assert all(bool(row[name]) == usage for name in OF_USAGE), row
    if usage:
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            assert abs(Fraction(row[price]) * Fraction(row["PricingQuantity"]) - Fraction(row[cost])) < Fraction(
                1, 10**8
            )
        assert abs(Fraction(row["ListCost"]) - Fraction(row["BilledCost"])) <= Fraction(1, 10**6)
    else:
        assert row["ListCost"] == row["ContractedCost"] == row["BilledCost"]


def test_all_mandatory_columns_are_there_and_our_own_say_so() -> None:
    assert set(COLUMNS) >= MANDATORY.keys() | OTHERS.keys()
    assert all(name.startswith("x_") for name in set(COLUMNS) - MANDATORY.keys() - OTHERS.keys())


@given(_rows, _books())
def test_rows_conform_and_add_up_to_the_invoice(rows: list[UsageRow], book: PublishedBook) -> None:
    document = invoice(rows, book)
    charges = read(document)
    for row in charges:
        check(row)
    assert sum(Fraction(row["BilledCost"]) for row in charges) == Fraction(document.total.micros, 10**6)
    used: Counter[tuple[str, ...]] = Counter()
    for each in rows:
        used[each.endpoint, str(each.version), each.digest, each.meter] += each.quantity
    told: Counter[tuple[str, ...]] = Counter()
    for row in charges:
        if row["ChargeCategory"] == "Usage":
            size = SIZES.get(row["SkuMeter"], 1)
            key = (row["ResourceId"], row["x_Version"], row["x_Digest"], row["SkuMeter"])
            told[key] += int(Decimal(row["ConsumedQuantity"]) * size)
    assert +told == +used


def test_variants_periods_and_corrections_are_named() -> None:
    price = Price(PriceScope(ANY, ANY, ANY, ANY, "rows"), "EUR", 1, (Tier(None, 2_000_000),))
    book = PublishedBook(1, 0, 0, PriceBook((Terms(ANY, "EUR", 0, 0, 190_000),), (price,), "sha256:1"))
    row = UsageRow("digits", 2, "sha256:bb", "rows", START, 3)
    before = UsageRow("digits", 2, "sha256:bb", "rows", START - HOUR_US, 1)
    document = invoice([row], book, [LateUsage(START - HOUR_US, START, [], [before])])
    usage, adjusted, tax = read(document)
    assert (usage["x_Model"], usage["x_Variant"], usage["BilledCost"], usage["ListUnitPrice"]) == (
        "digits", "int8-dynamic", "6", "2",
    )  # fmt: skip
    assert (usage["BillingPeriodStart"], usage["BillingPeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
    assert (usage["InvoiceId"], usage["ProviderName"]) == ("2026-0001", "Mofang GmbH")
    assert (adjusted["ChargeCategory"], adjusted["ChargeClass"]) == ("Adjustment", "Correction")
    assert (adjusted["BilledCost"], adjusted["ChargePeriodEnd"]) == ("2", usage["ChargePeriodStart"])
    assert (tax["ChargeCategory"], tax["BilledCost"]) == ("Tax", "1.52")
    given_back, its_tax = read(make_credit_note("cn_1", document, [(1, 6_000_000)], "our mistake", START))
    assert (given_back["ChargeCategory"], given_back["ChargeClass"], given_back["BilledCost"]) == (
        "Credit", "Correction", "-6",
    )  # fmt: skip
    assert (given_back["ChargeDescription"], its_tax["BilledCost"]) == ("our mistake", "-1.14")
    for each in (usage, adjusted, tax, given_back, its_tax):
        check(each)


@pytest.mark.parametrize("broken", [{"BilledCost": "1,5"}, {"ChargePeriodEnd": "2026-11-01"}, {"SkuId": ""}])
def test_the_check_itself_finds_what_is_wrong(broken: dict[str, str]) -> None:
    price = Price(PriceScope(ANY, ANY, ANY, ANY, "rows"), "EUR", 1, (Tier(None, 1),))
    book = PublishedBook(1, 0, 0, PriceBook((Terms(ANY, "EUR", 0, 0),), (price,), "sha256:1"))
    (row,) = read(invoice([UsageRow("digits", 1, "sha256:aa", "rows", START, 1)], book))
    check(row)
    with pytest.raises(AssertionError):
        check(row | broken)
