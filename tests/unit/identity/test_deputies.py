"""Words of deputies: good for one key and for a while, and for nobody who does not have the secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from mofang.base.domain.access import KeyEntry
from mofang.base.domain.errors import ExpiredKey, UnknownKey
from mofang.base.identity.deputies import check_word, is_word, open_secret, word

ENTRIES = {"abc": KeyEntry("abc", "0" * 64, "acme", "shop", "consumer", endpoints=("smol",))}
SECRET = b"s" * 32


def test_a_word_is_worth_the_key_it_names() -> None:
    said = word(SECRET, "abc", 1000)
    assert is_word(said)
    principal = check_word(said, SECRET, ENTRIES, 999)
    assert (principal.key_id, principal.tenant, principal.endpoints) == ("abc", "acme", ("smol",))
    with pytest.raises(ExpiredKey):
        check_word(said, SECRET, ENTRIES, 1000)
    with pytest.raises(UnknownKey, match="revoked"):
        check_word(said, SECRET, {}, 1)
    with pytest.raises(ExpiredKey):
        check_word(said, SECRET, {"abc": KeyEntry("abc", "0" * 64, "acme", "shop", "consumer", 500)}, 600)


def test_nobody_makes_one_without_the_secret() -> None:
    said = word(SECRET, "abc", 1000)
    others = [said.replace("1000", "2000"), said.replace("abc", "abd"), said[:-1] + ("0" if said[-1] != "0" else "1"),
              word(b"x" * 32, "abc", 1000), "mfd_", "mfd_abc_1000_", said + "0", said.upper()]  # fmt: skip
    for other in others:
        with pytest.raises(UnknownKey):
            check_word(other, SECRET, {**ENTRIES, "abd": ENTRIES["abc"]}, 1)


def test_the_secret_is_made_once_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "deputy.key"
    secret = open_secret(path)
    assert len(secret) == 32
    assert open_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["deputy.key"]
