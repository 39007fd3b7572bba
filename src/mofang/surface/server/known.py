"""Heads of requests that were read before: parsing is for bytes that are new.

A client sends the same head again and again. ``http1`` remembers the bytes of a head that led to a Direct answer, for
all connections of a server, with what they mean; the lane then asks for the key's rights each time all the same. What
is not exactly a known head and a body of its length goes to the parser.
"""

from __future__ import annotations

from mofang.surface.protocols.http import RequestHead
from mofang.surface.server.exchange import Direct, Exchange, House, KnownExchange, KnownHead, Sender

_MAX_HEADS, _MAX_BYTES = 1024, 2048
_NOT_KEPT = frozenset({"content-encoding", "transfer-encoding", "expect", "upgrade", "connection", "traceparent"})


def find_known(house: House, packet: bytes, sender: Sender) -> KnownExchange | None:
    """Return what ``packet``, which comes between two requests, asks, if it is one whole request and its head known."""
    end = packet.find(b"\r\n\r\n", 0, _MAX_BYTES) + 4
    known = house.known_heads.get(packet[:end])
    if known is None or len(packet) != end + known.body_bytes:
        return None
    return KnownExchange(sender, known, packet[end:])


def noted(exchange: Exchange, head: RequestHead, route: Direct, sender: Sender) -> KnownExchange:
    """Return a complete request that was parsed as one that can be answered with others, if the application can."""
    assert isinstance(exchange.body, list)
    known = KnownExchange(sender, KnownHead(head, route, exchange.received, route.note(head)), b"".join(exchange.body))
    known.keep_alive = exchange.keep_alive
    return known


def remember(known: dict[bytes, KnownHead], packet: bytes, exchange: Exchange) -> None:
    """Remember the head of a complete request that ``packet`` begins with, if those bytes can mean nothing else.

    Then every line of it ends in CRLF, and its first empty line is where the parser found the end: all that comes after
    is the body, of the length that the head says.
    """
    head, route = exchange.head, exchange.route
    if head is None or not isinstance(route, Direct) or not exchange.keep_alive:
        return
    end = packet.find(b"\r\n\r\n", 0, _MAX_BYTES) + 4
    raw = packet[:end]
    if (
        not raw.startswith(b"POST /")
        or raw.count(b"\n") != raw.count(b"\r\n")
        or head.headers.get("content-length") != str(exchange.received)
        or exchange.received != len(packet) - end
        or not _NOT_KEPT.isdisjoint(head.headers)
    ):
        return
    if len(known) >= _MAX_HEADS:
        known.clear()
    plain = RequestHead(head.method, head.path, head.query, head.headers)
    known[raw] = KnownHead(plain, route, exchange.received, route.note(plain))
