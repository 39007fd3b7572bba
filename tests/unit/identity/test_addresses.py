"""Where a request comes from: ranges, and what proxies say."""

from __future__ import annotations

import pytest

from mofang.base.domain.errors import InvalidNetwork
from mofang.base.identity.addresses import check_network, client_address, is_within

PROXIES = ("10.0.0.0/8", "::1/128")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("203.0.113.0/24", "203.0.113.0/24"), ("203.0.113.7", "203.0.113.7/32"), (" 2001:DB8::/32", "2001:db8::/32")],
)
def test_a_range_is_kept_in_one_form(given: str, kept: str) -> None:
    assert check_network(given) == kept


@pytest.mark.parametrize("text", ["", "everywhere", "203.0.113.7/24", "203.0.113.0/33", "1.2.3", "::/129", "1.2.3.4,"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidNetwork):
        check_network(text)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True), ("11.1.2.3", False), ("::ffff:10.1.2.3", True), ("::1", True), ("[::1]", True),
        ("fe80::1%eth0", False), ("", False), ("localhost", False), ("10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_an_address_is_in_a_range_or_not(address: str, inside: bool) -> None:
    assert is_within(address, PROXIES) is inside


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("203.0.113.7", None, "203.0.113.7"),
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),  # anybody can write a header
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # what stands before it, the client wrote herself
        ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, garbage", "10.0.0.1"),
        ("::1", "2001:db8::7", "2001:db8::7"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, header: str | None, client: str) -> None:
    assert client_address(peer, header, PROXIES) == client
    assert client_address(peer, header, ()) == peer
