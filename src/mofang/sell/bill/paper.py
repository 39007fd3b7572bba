"""An invoice as people and spreadsheets read it: one page to print, one table. Pure; nothing is computed here.

The page is complete in itself: no script, nothing that is fetched.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape

from mofang.base.domain.money import format_micros
from mofang.sell.bill.charge import Step
from mofang.sell.bill.invoice import Document
from mofang.sell.bill.pricebook import ANY
from mofang.sell.bill.rating import InvoiceLine
from mofang.sell.bill.store import Invoice, Party
from mofang.sell.meter.windows import DAY_US, describe

CSV_COLUMNS = (
    "number", "id", "kind", "state", "tenant", "line", "line_kind", "from", "to", "meter", "endpoint", "model",
    "variant", "price_book", "quantity", "amount", "currency",
)  # fmt: skip
_TITLES = {"invoice": "Invoice", "credit_note": "Credit note"}
_UNITS = {
    "requests": "requests", "rows": "rows", "input_tokens": "input tokens", "output_tokens": "output tokens",
    "cached_tokens": "cached tokens", "audio_seconds": "seconds of audio", "images": "images",
    "batch_requests": "requests of batches", "batch_input_tokens": "input tokens of batches",
    "batch_output_tokens": "output tokens of batches", "batch_cached_tokens": "cached tokens of batches",
    "input_bytes": "bytes received", "output_bytes": "bytes sent", "compute_us": "compute time",
}  # fmt: skip
_STYLE = """
@page { size: A4; margin: 18mm 16mm }
* { box-sizing: border-box }
body { font: 10pt/1.45 "Helvetica Neue", Arial, sans-serif; color: #1b1f24; margin: 0 auto; max-width: 178mm;
  padding: 8mm 0 }
header, .parties, .sums { display: flex; justify-content: space-between; gap: 12mm }
h1 { font-size: 21pt; font-weight: 600; letter-spacing: -.01em; margin: 0 }
.seller { text-align: right; white-space: pre-line }
.seller strong { font-size: 12pt }
.muted, th, dt { color: #6a737d }
.parties { margin: 11mm 0 9mm }
.parties p { margin: .5mm 0 0; white-space: pre-line }
dl { display: grid; grid-template-columns: auto auto; gap: .6mm 6mm; margin: 0; align-content: start }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th { font-weight: 500; text-align: left; font-size: 8.5pt; border-bottom: .35mm solid #1b1f24; padding: 1.5mm 2mm }
td { padding: 2mm; border-bottom: .2mm solid #e1e4e8; vertical-align: top }
tr { break-inside: avoid }
.number { text-align: right; white-space: nowrap }
small { display: block; color: #6a737d; font-size: 8.5pt }
.sums { justify-content: flex-end; margin-top: 5mm; break-inside: avoid }
.sums dl { min-width: 78mm; column-gap: 0; padding-right: 2mm }
.sums .due { font-weight: 700; font-size: 12.5pt; color: inherit; border-top: .35mm solid #1b1f24; margin-top: 1mm;
  padding-top: 1.5mm }
.stamp { display: inline-block; border: .5mm solid #b31d28; color: #b31d28; font-weight: 700; padding: .5mm 3mm;
  letter-spacing: .12em; margin-left: 4mm; font-size: 10pt; vertical-align: middle }
.notes { margin-top: 10mm; white-space: pre-line }
footer { margin-top: 12mm; border-top: .2mm solid #e1e4e8; padding-top: 2.5mm; font-size: 7.5pt; color: #6a737d;
  overflow-wrap: anywhere }
"""


def csv_text(invoice: Invoice) -> str:
    """Return the lines as CSV (RFC 4180), amounts as decimals; net, tax, total and due are the last rows."""
    document = invoice.document
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    head = (invoice.number, document.id, document.kind, invoice.state, document.tenant)
    for line in document.lines:
        scope = line.scope
        of = (line.number, line.kind, describe(line.start), describe(line.end))
        what = (scope.meter, scope.endpoint, scope.model, scope.variant, line.price_book or "", line.quantity)
        writer.writerow((*head, *of, *what, format_micros(line.amount_micros), document.currency))
    period = (describe(document.start), describe(document.end))
    for name in ("net", "tax", "total", "due"):
        money = getattr(document, name)
        writer.writerow((*head, "", name, *period, *[""] * 6, format_micros(money.micros), document.currency))
    return out.getvalue()


def html_page(invoice: Invoice, seller: Party, buyer: Party, credited: str = "") -> str:
    """Return a page to print. ``credited`` is the number of the invoice that a credit note is for."""
    document = invoice.document
    title = f"{_TITLES[document.kind]} {invoice.number or 'draft'}"
    stamp = f'<span class="stamp">{invoice.state.upper()}</span>' if invoice.state in ("draft", "void", "paid") else ""
    return "\n".join(
        (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
            f"<header><h1>{_TITLES[document.kind]}{stamp}</h1>",
            f'<div class="seller"><strong>{escape(seller.title)}</strong>\n{escape(seller.address)}</div></header>',
            f'<section class="parties">{_party(buyer)}{_facts(invoice, credited)}</section>',
            _table(document),
            _sums(document),
            f'<p class="notes">{escape(document.reason)}</p>' if document.reason else "",
            f'<p class="notes">{escape(seller.notes)}</p>' if seller.notes else "",
            _foot(document, seller),
            "</body></html>\n",
        )
    )


def _party(party: Party) -> str:
    details = [party.address, party.email, party.tax_id and f"Tax ID {party.tax_id}"]
    text = "\n".join(escape(part) for part in details if part)
    name = escape(party.title or party.tenant)
    return f'<div><span class="muted">Billed to</span><p><strong>{name}</strong>\n{text}</p></div>'


def _facts(invoice: Invoice, credited: str) -> str:
    document = invoice.document
    facts = [
        ("Number", invoice.number or "—"),
        ("Date", _day(invoice.issued_at) if invoice.issued_at else "—"),
        ("Period", _period(document.start, document.end)),
        ("Customer", document.tenant),
        *([("Corrects invoice", credited)] if credited else []),
    ]
    return f"<dl>{_pairs(facts)}</dl>"


def _table(document: Document) -> str:
    amounts = _aligned([line.amount_micros for line in document.lines])
    rows = (
        f'<tr><td class="muted">{line.number}</td><td>{_what(line, document)}</td>'
        f'<td class="number">{escape(_quantity(line.scope.meter, line.quantity)) if line.quantity else ""}</td>'
        f'<td class="number">{amount}</td></tr>'
        for line, amount in zip(document.lines, amounts, strict=True)
    )
    heads = f'<th>#</th><th>Description</th><th class="number">Quantity</th><th class="number">{document.currency}</th>'
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _what(line: InvoiceLine, document: Document) -> str:
    details = [*_details(line, document)]
    return f"{escape(title_of(line))}{''.join(f'<small>{escape(text)}</small>' for text in details)}"


def title_of(line: InvoiceLine) -> str:
    """Return what a line is for, in a few words."""
    scope = line.scope
    places = {"endpoint": scope.endpoint, "model": scope.model, "variant": scope.variant}
    where = ", ".join(f"{kind} {name}" for kind, name in places.items() if name != ANY)
    what = _UNITS.get(scope.meter, scope.meter).capitalize() + (f" — {where}" if where else "")
    if line.kind == "discount":
        return f"Discount {_percent(line.ppm)} on {_list(line.of)}"
    if line.kind == "minimum":
        return "Difference to the agreed minimum"
    if line.kind == "credit":
        return f"Credit for line {line.of[0]}" + (f": {what}" if scope.meter else "")
    if line.kind == "adjustment":
        return f"Adjustment for {_period(line.start, line.end)}" + (f": {what}" if scope.meter else "")
    return what


def _details(line: InvoiceLine, document: Document) -> Iterator[str]:
    if (line.start, line.end) != (document.start, document.end) and line.kind == "usage":
        yield _period(line.start, line.end)
    for step in line.steps:
        yield step_text(step, line.scope.meter, document.currency)
    versions = [f"{part.endpoint} v{part.version}: {_quantity(line.scope.meter, part.quantity)}" for part in line.parts]
    if len(versions) > 1:
        yield "; ".join(versions)


def step_text(step: Step, meter: str, currency: str) -> str:
    """Return how units are priced: ``1,000 at 0.50 EUR per 1,000``."""
    many = _quantity(meter, step.quantity)
    if not step.unit_micros:
        return f"{many} included"
    if meter == "compute_us" and step.per % 3_600_000_000 == 0:
        hours = step.per // 3_600_000_000
        return f"{many} at {_decimal(step.unit_micros, hours)} {currency} a core-hour"
    per = "each" if step.per == 1 else f"per {step.per:,}"
    return f"{many} at {format_micros(step.unit_micros)} {currency} {per}"


def _decimal(micros: int, divisor: int) -> str:
    """Write a price exactly, however fine: ``0.06665``."""
    whole, rest = divmod(micros, divisor)
    if not rest:
        return format_micros(whole)
    digits = f"{micros * 1_000_000 // divisor:013d}"
    return f"{int(digits[:-12])}.{digits[-12:].rstrip('0')}"


def _quantity(meter: str, quantity: int) -> str:
    if meter == "compute_us":
        seconds, micros = divmod(quantity, 1_000_000)
        return f"{seconds:,}.{micros:06d} s"
    return f"{quantity:,}"


def _sums(document: Document) -> str:
    net, tax, total = _aligned([document.net.micros, document.tax.micros, document.total.micros])
    pairs = [("Net", net), (f"Tax {_percent(document.tax_ppm)}", tax)]
    if document.due != document.total:
        pairs.append(("Total, exactly", total))
    due = "Amount due" if document.kind == "invoice" else "Amount credited"
    money = document.due if document.kind == "invoice" else type(document.due)(-document.due.micros, document.currency)
    last = f'<dt class="due">{due}</dt><dd class="due">{_aligned([money.micros])[0]} {money.currency}</dd>'
    return f'<section class="sums"><dl>{_pairs(pairs)}{last}</dl></section>'


def _foot(document: Document, seller: Party) -> str:
    lines = [f"{book.version} ({book.digest})" for book in document.price_books]
    parts = [
        " · ".join(
            part.replace("\n", ", ") for part in (seller.title, seller.address, seller.email, seller.tax_id) if part
        ),
        f"All times are UTC. Document {document.id}, SHA-256 {document.sha256}, price book {', '.join(lines)}.",
    ]
    return f"<footer>{'<br>'.join(escape(part) for part in parts if part)}</footer>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)


def _aligned(micros: Iterable[int]) -> list[str]:
    """Write amounts exactly, with equally many decimals and thousands apart."""
    texts = [format_micros(value).partition(".") for value in micros]
    places = max((len(fraction) for _, _, fraction in texts), default=2)
    return [f"{'-' if whole == '-0' else ''}{int(whole):,}.{fraction:0<{places}}" for whole, _, fraction in texts]


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


def _list(numbers: tuple[int, ...]) -> str:
    if len(numbers) > 2 and numbers == tuple(range(numbers[0], numbers[-1] + 1)):
        return f"lines {numbers[0]} to {numbers[-1]}"
    return f"lines {', '.join(map(str, numbers))}" if len(numbers) > 1 else f"line {numbers[0]}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d")


def _period(start: int, end: int) -> str:
    """Write a period: its first and last day, or its hours if it does not begin and end at midnight."""
    if start % DAY_US == end % DAY_US == 0:
        return " – ".join(dict.fromkeys((_day(start), _day(end - DAY_US))))
    first, last = (datetime.fromtimestamp(at // 1_000_000, UTC) for at in (start, end))
    return f"{first:%Y-%m-%d %H:%M} – {last:%Y-%m-%d %H:%M}"
