"""How a UsageRecord is written in the journal: one version byte, then a msgpack array.

The recorder encodes, the settler decodes, possibly years and releases apart: a format that was written once stays
readable, and a new one takes the next version byte. It must not know files, offsets or the ledger.
"""

from __future__ import annotations

import msgspec

from mofang.base.domain.errors import InvalidUsage, JournalDamaged
from mofang.base.domain.usage import UsageRecord
from mofang.sell.meter.windows import MAX_AT

MAX_QUANTITY = (1 << 48) - 1
"""The most units one record may carry: 256 TiB, or nine years in microseconds. More is a defect, and sums stay
within the 64 bits of the ledger."""

_VERSION = b"\x02"
_READABLE = (b"\x01", _VERSION)  # 1: without charges
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(UsageRecord)


def encode(usage: UsageRecord) -> bytes:
    """Return ``usage`` as bytes; raise InvalidUsage if its time or a quantity could not be settled exactly."""
    if not 0 <= usage.at < MAX_AT:
        raise InvalidUsage(f"request {usage.request_id!r} was answered at {usage.at!r}, outside of the calendar")
    for meter, quantity in usage.quantities.items():
        # A float or a bool would be written all the same and stop the settler later, when nobody can answer for it.
        if type(quantity) is not int or not 0 <= quantity <= MAX_QUANTITY:
            raise InvalidUsage(f"request {usage.request_id!r} used {quantity!r} of {meter!r}")
    return _VERSION + _encoder.encode(usage)


def decode(payload: bytes) -> UsageRecord:
    """Return the record that :func:`encode` wrote; raise JournalDamaged if it is none, or of a later release."""
    if payload[:1] not in _READABLE:
        raise JournalDamaged(
            f"a usage record has format {payload[:1].hex() or 'none'}, this release reads {_VERSION.hex()}",
            hint="run the release that wrote it, or a later one",
        )
    try:
        return _decoder.decode(memoryview(payload)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalDamaged(f"a usage record cannot be read: {error}") from error
