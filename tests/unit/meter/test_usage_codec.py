from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgers import usage
from mofang.base.domain.errors import InvalidUsage, JournalDamaged
from mofang.base.domain.usage import Charge, UsageRecord, UsageSheet
from mofang.sell.meter.codec import MAX_QUANTITY, decode, encode, encode_sheet
from mofang.sell.meter.windows import MAX_AT

_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_records = st.builds(
    UsageRecord,
    request_id=_words,
    at=st.integers(0, MAX_AT - 1),
    tenant=_words,
    project=_words,
    key_id=_words,
    endpoint=_words,
    revision=st.integers(0, 2**31),
    version=st.integers(0, 2**31),
    digest=_words,
    outcome=st.sampled_from(["ok", "error"]),
    quantities=st.dictionaries(_words, st.integers(0, MAX_QUANTITY), max_size=6),
    attempt=st.integers(1, 100),
    source=st.sampled_from(["engine", "estimated"]),
)


@given(_records)
def test_what_is_encoded_is_decoded(record: UsageRecord) -> None:
    assert decode(encode(record)) == [record]


def test_format_1_stays_readable() -> None:
    # Bytes of the first release: never change them, add a format instead.
    payload = bytes.fromhex(
        "019da57265715f31cf00065f34c6ac4000a461636d65a6766973696f6ea46b657931a6646967697473"
        "0302a97368613235363a6162a26f6b81a4726f77730501a6656e67696e65"
    )
    assert decode(payload) == [
        usage(request_id="req_1", at=0x00065F34C6AC4000, digest="sha256:ab", quantities={"rows": 5})
    ]


SHEET = UsageSheet(
    7, "acme", "shop", "k", "digits", 3, 2, "sha256:ab", [("req_1", 1, 10, 400, 40), ("req_2", 5, 50, 900, 200)]
)


def test_a_sheet_stands_for_the_records_of_its_lines() -> None:
    first, second = decode(encode_sheet(SHEET))
    assert first == usage(
        request_id="req_1", at=7, tenant="acme", project="shop", key_id="k", digest="sha256:ab",
        quantities={"requests": 1, "rows": 1, "compute_us": 10, "input_bytes": 400, "output_bytes": 40},
    )  # fmt: skip
    assert (second.request_id, second.quantities["rows"], second.quantities["output_bytes"]) == ("req_2", 5, 200)


def test_format_3_stays_readable() -> None:
    # Bytes of the first release that wrote it: never change them, add a format instead.
    payload = bytes.fromhex(
        "039907a461636d65a473686f70a16ba66469676974730302a9736861323536"
        "3a61629295a57265715f31010acd01902895a57265715f320532cd0384ccc8"
    )
    assert decode(payload) == decode(encode_sheet(SHEET))


def test_charges_of_a_sheet_are_on_record_once() -> None:
    charge = Charge("budget_1", 0, 70)
    first, second = decode(encode_sheet(msgspec.structs.replace(SHEET, charges=(charge,))))
    assert (first.charges, second.charges) == ((charge,), ())


@pytest.mark.parametrize("quantity", [-1, MAX_QUANTITY + 1, 1.0, True, "1", None])
def test_a_quantity_that_cannot_be_billed_is_refused_before_it_is_written(quantity: object) -> None:
    with pytest.raises(InvalidUsage, match="rows"):
        encode(usage(quantities={"requests": 1, "rows": quantity}))


@pytest.mark.parametrize("at", [-1, MAX_AT])
def test_a_time_outside_of_the_calendar_is_refused_before_it_is_written(at: int) -> None:
    with pytest.raises(InvalidUsage, match="calendar"):
        encode(usage(at=at))


@given(st.binary(max_size=200))
def test_other_bytes_are_damage_and_nothing_else(payload: bytes) -> None:
    with pytest.raises(JournalDamaged):
        decode(payload)


@given(st.integers(0, 60), st.integers(1, 255))
def test_a_flipped_byte_is_either_seen_or_another_record(position: int, flip: int) -> None:
    payload = bytearray(encode(usage()))
    payload[position] ^= flip
    try:
        records = decode(bytes(payload))
    except JournalDamaged:
        return
    assert all(isinstance(record, UsageRecord) for record in records)


def test_a_later_format_names_itself() -> None:
    with pytest.raises(JournalDamaged, match="format 05"):
        decode(b"\x05" + encode(usage())[1:])
