"""Which roles a provider's claims give: rules as the owner writes them, and their pure reading.

``groups=ml-admins -> admin; groups=acme-* -> developer@tenant:acme; email=*@acme.com -> viewer@project:shop``
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast, get_args

from mofang.base.domain.access import Grant, Role
from mofang.base.domain.errors import InvalidSettings

_RULE = re.compile(r"\s*([A-Za-z0-9_.:/-]+)\s*=\s*(.+?)\s*->\s*([a-z]+)(?:@(tenant|project):([a-z0-9._-]+))?\s*")


@dataclass(frozen=True, slots=True)
class Rule:
    """Who has ``claim`` like ``pattern`` (``*`` is anything) gets ``role``, in a tenant, a project or everywhere."""

    claim: str
    pattern: str
    role: Role
    tenant: str = ""
    project: str = ""


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read rules with semicolons between them; raise InvalidSettings."""
    return tuple(_rule(part) for part in text.split(";") if part.strip())


def _rule(part: str) -> Rule:
    found = _RULE.fullmatch(part)
    if found is None or found[3] not in get_args(Role):
        hint = "write e.g. groups=ml-* -> developer@tenant:acme; email=ada@acme.com -> owner"
        raise InvalidSettings(f"{part.strip()[:100]!r} is no rule for roles", hint=hint)
    claim, pattern, role, kind, name = found.groups()
    return Rule(claim, pattern, cast(Role, role), name if kind == "tenant" else "", name if kind == "project" else "")


def matching(rules: Sequence[Rule], claims: Mapping[str, Any]) -> list[Rule]:
    """Return the rules that ``claims`` satisfy. An address counts only if the provider has verified it."""
    return [rule for rule in rules if any(fnmatchcase(value, rule.pattern) for value in _values(claims, rule.claim))]


def _values(claims: Mapping[str, Any], claim: str) -> list[str]:
    if claim == "email" and claims.get("email_verified") is not True:
        return []
    found = claims.get(claim)
    return [value for value in (found if isinstance(found, list) else [found]) if isinstance(value, str)]


def grants_of(rules: Sequence[Rule], tenant_of: Mapping[str, str]) -> list[Grant]:
    """Return the grants of ``rules``; those that name a project which is not there give nothing.

    ``tenant_of`` names the tenant of every project.
    """
    return [
        Grant(rule.role, rule.tenant or tenant_of.get(rule.project, ""), rule.project)
        for rule in rules
        if not rule.project or rule.project in tenant_of
    ]
