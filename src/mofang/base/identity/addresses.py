"""Where a request comes from: network ranges, and the client behind proxies that are trusted. Pure.

Keys name ranges; gateways find out the address. A header like ``X-Forwarded-For`` counts only if the peer that sent it
is a proxy the owner trusts, since anybody can write one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any

from mofang.base.domain.errors import InvalidNetwork

Network = IPv4Network | IPv6Network


def check_network(text: str) -> str:
    """Return the range ``text`` (CIDR, or one address) in its usual form; raise InvalidNetwork."""
    try:
        return str(ip_network(text.strip()))
    except ValueError as error:
        raise InvalidNetwork(f"{text[:60]!r} is no range of addresses: {error}") from None


def is_within(address: str, networks: Sequence[str]) -> bool:
    """Tell whether ``address`` is in one of ``networks``; what is no address is in none."""
    found = _address(address)
    return found is not None and any(found in network for network in map(_network, networks))


def client_address(peer: str, forwarded_for: str | None, trusted: Sequence[str]) -> str:
    """Return who asks: the peer, or if that is a trusted proxy, the last address before the trusted ones.

    ``forwarded_for`` is the value of ``X-Forwarded-For``: each proxy appends the address that spoke to it, so only what
    trusted proxies wrote, at the right end, is believed.
    """
    hops = [peer, *reversed([hop.strip() for hop in (forwarded_for or "").split(",") if hop.strip()])]
    for hop, before in pairwise(hops):
        if not is_within(hop, trusted):
            return hop
        if _address(before) is None:
            return hop
    return hops[-1]


@lru_cache(maxsize=4096)
def _network(text: str) -> Network:
    return ip_network(text)


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def reachable(found: Iterable[Sequence[Any]], *, internal: bool) -> str | None:
    """Return the first address that ``getaddrinfo`` found; None if one of them is inside and that is not allowed.

    Who asks a server that somebody else names resolves the name once, checks what is found here, and asks by number:
    so no name leads to the inside between the check and the connection.
    """
    addresses = [str(each[4][0]) for each in found]
    return addresses[0] if internal or all(map(is_public, addresses)) else None


def is_public(address: str) -> bool:
    """Tell whether an address is one of the open Internet, however it is written."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            found = inner
        elif found in ip_network("64:ff9b::/96"):  # NAT64
            found = IPv4Address(int(found) & 0xFFFF_FFFF)
    return found.is_global and not found.is_multicast
