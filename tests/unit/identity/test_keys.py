from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.access import KeyEntry, Principal
from mofang.base.domain.errors import ExpiredKey, OutOfNetwork, Unauthenticated, UnknownKey
from mofang.base.identity.keys import NewKey, authenticate, new_key, parse_key


@pytest.fixture
def key() -> NewKey:
    return new_key()


@pytest.fixture
def entry(key: NewKey) -> KeyEntry:
    return KeyEntry(key.id, key.secret_sha256, "acme", "vision", "consumer")


def test_a_key_says_its_id_and_keeps_its_secret(key: NewKey) -> None:
    key_id, secret = parse_key(key.text)
    assert key_id == key.id
    assert len(key.text) == len("mf_") + 10 + 1 + 32 + 6
    assert secret not in repr(key)


def test_a_good_key_names_its_holder(key: NewKey, entry: KeyEntry) -> None:
    assert authenticate(key.text, {key.id: entry}, at=0) == Principal(key.id, "acme", "vision", "consumer")


@pytest.mark.parametrize("text", [None, ""])
def test_no_key(text: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        authenticate(text, {}, at=0)
    assert caught.value.code == "key.missing"


def test_a_key_nobody_made(entry: KeyEntry) -> None:
    with pytest.raises(UnknownKey, match="not known here"):
        authenticate(new_key().text, {entry.id: entry}, at=0)


def test_a_key_with_the_secret_of_another(key: NewKey, entry: KeyEntry) -> None:
    stolen = replace(entry, secret_sha256=new_key().secret_sha256)
    with pytest.raises(UnknownKey, match="not known here"):
        authenticate(key.text, {key.id: stolen}, at=0)


def test_a_key_expires_to_the_microsecond(key: NewKey, entry: KeyEntry) -> None:
    entries = {key.id: replace(entry, expires_at=100)}
    assert authenticate(key.text, entries, at=99)
    with pytest.raises(ExpiredKey):
        authenticate(key.text, entries, at=100)


@given(st.integers(0, 51), st.characters(max_codepoint=0x17F))
def test_one_wrong_character_is_found_without_asking_anyone(position: int, character: str) -> None:
    text = new_key().text
    damaged = text[:position] + character + text[position + 1 :]
    if damaged != text:
        with pytest.raises(UnknownKey, match=r"no key|damaged"):
            parse_key(damaged)


@given(st.text(max_size=80))
def test_any_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(UnknownKey):
        parse_key(text)


def test_a_key_with_a_line_end_is_none(key: NewKey) -> None:
    with pytest.raises(UnknownKey):
        parse_key(key.text + "\n")


@pytest.mark.parametrize(("address", "lets_in"), [("203.0.113.9", True), ("203.0.114.9", False), ("", False)])
def test_a_key_comes_from_its_networks_only(key: NewKey, entry: KeyEntry, address: str, lets_in: bool) -> None:
    entry = replace(entry, networks=("203.0.113.0/24", "2001:db8::/32"))
    if lets_in:
        assert authenticate(key.text, {key.id: entry}, 0, address).key_id == key.id
    else:
        with pytest.raises(OutOfNetwork, match="may not be used from"):
            authenticate(key.text, {key.id: entry}, 0, address)


def test_verbs_narrow_a_role_and_never_widen_it(key: NewKey, entry: KeyEntry) -> None:
    entry = replace(entry, role="developer", verbs=("usage", "sell"))
    principal = authenticate(key.text, {key.id: entry}, 0)
    assert principal.permissions == {"usage"}
    assert [principal.may(verb) for verb in ("usage", "infer", "sell")] == [True, False, False]
