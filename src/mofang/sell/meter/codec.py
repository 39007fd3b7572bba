"""How usage is written in the journal: one byte for the format, then a msgpack array.

Formats 1 and 2 are a UsageRecord, 3 and 4 are a UsageSheet, which stands for many records.

The recorder encodes, the settler decodes, possibly years and releases apart: a format that was written once stays
readable, and a new one takes the next version byte. It must not know files, offsets or the ledger.
"""

from __future__ import annotations

import msgspec

from mofang.base.domain.errors import InvalidUsage, JournalDamaged
from mofang.base.domain.usage import UsageRecord, UsageSheet
from mofang.sell.meter.windows import MAX_AT

MAX_QUANTITY = (1 << 48) - 1
"""The most units one record may carry: 256 TiB, or nine years in microseconds. More is a defect, and sums stay
within the 64 bits of the ledger."""

_RECORDS = (b"\x01", b"\x02")  # 1: without charges
_SHEETS = (b"\x03", b"\x04")  # 3: without charges
_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(UsageRecord)
_sheet_decoder = msgspec.msgpack.Decoder(UsageSheet)


def encode(usage: UsageRecord) -> bytes:
    """Return ``usage`` as bytes; raise InvalidUsage if its time or a quantity could not be settled exactly."""
    if not 0 <= usage.at < MAX_AT:
        raise InvalidUsage(f"request {usage.request_id!r} was answered at {usage.at!r}, outside of the calendar")
    for meter, quantity in usage.quantities.items():
        # A float or a bool would be written all the same and stop the settler later, when nobody can answer for it.
        if type(quantity) is not int or not 0 <= quantity <= MAX_QUANTITY:
            raise InvalidUsage(f"request {usage.request_id!r} used {quantity!r} of {meter!r}")
    return _RECORDS[-1] + _encoder.encode(usage)


def encode_sheet(sheet: UsageSheet) -> bytes:
    """Return ``sheet`` as bytes. Its quantities are the lane's own counts, so that only its time is looked at."""
    if not 0 <= sheet.at < MAX_AT:
        raise InvalidUsage(f"{len(sheet.lines)} requests were answered at {sheet.at!r}, outside of the calendar")
    return _SHEETS[-1] + _encoder.encode(sheet)


def decode(payload: bytes) -> list[UsageRecord]:
    """Return the records that were written; raise JournalDamaged if these are none, or of a later release."""
    written, content = payload[:1], memoryview(payload)[1:]
    try:
        if written in _RECORDS:
            return [_record_decoder.decode(content)]
        if written in _SHEETS:
            return list(_sheet_decoder.decode(content).records())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalDamaged(f"a usage record cannot be read: {error}") from error
    raise JournalDamaged(
        f"a usage record has format {written.hex() or 'none'}, this release reads 01 to {_SHEETS[-1].hex()}",
        hint="run the release that wrote it, or a later one",
    )
