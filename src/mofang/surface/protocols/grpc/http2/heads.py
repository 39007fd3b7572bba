"""The heads of calls and answers, between header blocks and fields (RFC 7541; "gRPC over HTTP2" for the fields).

A client sends the same head again and again; once its fields are in the table that both sides keep, the very same
bytes. What such bytes mean is remembered, for one connection, until its table changes: those are read without the rest.
What we send is written without a table, so that it can be made once for all connections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote

import msgspec
from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from mofang.base.domain.errors import HeadTooLarge, InvalidRequest, MofangError
from mofang.surface.protocols.grpc.http2.frames import Code, ConnectionFault, StreamFault

HEAD_BYTES = 32 << 10
_MOST_FIELDS = 100
_KNOWN, _KNOWN_BYTES = 64, 1024  # header blocks that are remembered, and how long they may be
_TIMEOUT = re.compile("([0-9]{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
_OF_CONNECTIONS = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_NAME = re.compile("[!#$%&'*+.^_`|~0-9a-z-]+")

Fields = Sequence[tuple[str, str]]


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a call says before its messages."""

    path: str
    fields: Fields  # metadata; names are lower case
    timeout_seconds: float | None
    encoding: str  # of its messages, where they say that they have one
    http_status: int  # other than 200: this is no gRPC
    refusal: MofangError | None

    def values(self, name: str) -> list[str]:
        """Return all that is said under ``name``."""
        return [value for key, value in self.fields if key == name]

    def value(self, name: str) -> str | None:
        """Return what is said under ``name``, the last if it is said several times."""
        found = self.values(name)
        return found[-1] if found else None


class HeadReader:
    """Reads the header blocks of one connection, every one of them, in their order."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=4 * HEAD_BYTES)  # more than that is no accident
        self._table = self._decoder.header_table = _Table()
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Return what ``block`` says. Raises StreamFault, or ConnectionFault if its fields cannot be told."""
        known = self._known.get(block)
        if known is not None:
            return known
        changes = self._table.changes
        try:
            fields = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except HPACKError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"a header block cannot be read: {error}") from None
        resized = block[:1] >= b"\x20" and block[:1] < b"\x40"
        if resized or self._table.changes != changes or len(self._known) >= _KNOWN:
            self._known.clear()
        head = _head([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])
        if not resized and self._table.changes == changes and len(block) <= _KNOWN_BYTES:
            self._known[block] = head
        return head


class _Table(HeaderTable):
    """A table that counts how often something was put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """See the base class."""
        self.changes += 1
        super().add(name, value)


def _head(fields: list[tuple[str, str]]) -> Head:
    pseudo = dict(fields[: sum(name.startswith(":") for name, _ in fields)])
    rest = fields[len(pseudo) :]
    if not {":method", ":scheme", ":path"} <= pseudo.keys() <= _PSEUDO:
        raise StreamFault("the pseudo-header fields of a request are missing, unknown, repeated or out of place")
    for name, value in rest:
        if not _NAME.fullmatch(name) or name in _OF_CONNECTIONS or "\n" in value or "\r" in value or "\0" in value:
            raise StreamFault("a header field is malformed")
    named = dict(rest)
    kind = named.get("content-type", "")
    is_grpc = kind == "application/grpc" or kind.startswith(("application/grpc+", "application/grpc;"))
    status = 405 if pseudo[":method"] != "POST" else 200 if is_grpc else 415
    timeout: float | None = None
    refusal: MofangError | None = None
    if (said := named.get("grpc-timeout")) is not None:
        found = _TIMEOUT.fullmatch(said)
        if found is None:
            refusal = InvalidRequest(f"grpc-timeout {said[:40]!r} is no time", hint="e.g. 500m for half a second")
        else:
            timeout = int(found[1]) * _SECONDS[found[2]]
    if len(fields) > _MOST_FIELDS or sum([len(name) + len(value) + 32 for name, value in fields]) > HEAD_BYTES:
        refusal = HeadTooLarge(f"the metadata has more than {_MOST_FIELDS} fields or {HEAD_BYTES} bytes")
    return Head(pseudo[":path"], tuple(rest), timeout, named.get("grpc-encoding", "identity"), status, refusal)


def literal(name: str, value: str) -> bytes:
    """Return a header field that touches no table."""
    return b"\0" + _string(name.encode("ascii")) + _string(value.encode("ascii", "backslashreplace"))


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return header fields, one after the other."""
    return b"".join([literal(name, value) for name, value in fields])


def _string(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    size -= 127
    head = b"\x7f"
    while size > 127:
        head += bytes((size & 127 | 128,))
        size >>= 7
    return head + bytes((size,)) + data


GOOD_HEAD = b"\x88" + block([("content-type", "application/grpc"), ("grpc-accept-encoding", "identity,deflate,gzip")])
"""How every answer begins; 0x88 is ``:status: 200`` of the static table."""
GOOD_END = literal("grpc-status", "0")


@lru_cache(maxsize=64)
def http_refusal(status: int) -> bytes:
    """Return the head of an answer to what is no gRPC."""
    return literal(":status", str(status))


def bad_end(status: int, message: str) -> bytes:
    """Return the fields that end a call badly; what is no printable ASCII in ``message`` is percent-encoded."""
    return block(
        [("grpc-status", str(status)), ("grpc-message", quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"))]
    )
