"""What may become of an invoice: its states as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

InvoiceState = Literal["draft", "issued", "paid", "void"]
DocumentKind = Literal["invoice", "credit_note"]

INVOICE_NEXT: Mapping[InvoiceState, frozenset[InvoiceState]] = MappingProxyType(
    {
        "draft": frozenset({"issued", "void"}),
        "issued": frozenset({"paid", "void"}),
        "paid": frozenset(),
        "void": frozenset(),
    }
)
"""Which states follow which. A draft has no number; an issued document keeps its number for ever, void or not. What was
paid is only ever corrected by a credit note, which begins as issued and is ``paid`` when the money went back."""

NUMBER_SERIES: Mapping[DocumentKind, str] = MappingProxyType({"invoice": "INV", "credit_note": "CN"})
"""Documents are numbered without gaps, each kind in a series of its own: ``INV-000001``."""


def may_become(now: InvoiceState, then: InvoiceState) -> bool:
    """Tell whether a document may go from one state to the other."""
    return then in INVOICE_NEXT[now]
