"""Which roles a provider's claims give."""

from __future__ import annotations

from typing import Any

import pytest

from mofang.base.domain.access import Grant
from mofang.base.domain.errors import InvalidSettings
from mofang.base.users.rules import grants_of, matching, parse_rules

RULES = "groups=ml-* -> developer@tenant:acme; groups=ops->owner; email=*@acme.com -> viewer@project:shop;"


@pytest.mark.parametrize(
    ("claims", "given"),
    [
        ({"groups": ["ml-vision", "staff"]}, [Grant("developer", "acme")]),
        ({"groups": "ops"}, [Grant("owner")]),
        ({"groups": ["html-x"]}, []),
        ({"email": "ada@acme.com", "email_verified": True}, [Grant("viewer", "acme", "shop")]),
        ({"email": "ada@acme.com"}, []),
        ({"email": "ada@acme.com", "email_verified": "true"}, []),
        ({"email": "ada@acme.com.evil.org", "email_verified": True}, []),
        ({"groups": [7, None, "ops"], "email": 5}, [Grant("owner")]),
        ({}, []),
    ],
)
def test_claims_give_grants(claims: dict[str, Any], given: list[Grant]) -> None:
    assert grants_of(matching(parse_rules(RULES), claims), {"shop": "acme"}) == given


def test_a_project_that_is_not_there_gives_nothing() -> None:
    rules = parse_rules("email=* -> admin@project:gone")
    assert grants_of(matching(rules, {"email": "a@b.c", "email_verified": True}), {}) == []


@pytest.mark.parametrize(
    "text",
    ["groups", "groups=x", "groups=x -> king", "groups=x -> admin@planet:earth", "x -> admin", "a=b -> admin@tenant:"],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="no rule"):
        parse_rules(text)
