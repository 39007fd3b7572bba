"""The names of people."""

from __future__ import annotations

import re

from mofang.base.domain.errors import InvalidName

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._+@-]{0,98}[a-z0-9])?")


def check_user_name(value: str) -> str:
    """Return ``value`` if it can be the name of a user, an address or a short name in small letters; or InvalidName."""
    if not _NAME.fullmatch(value) or ".." in value:
        hint = "use 1-100 of a-z, 0-9 and .-_+@, starting and ending with a letter or digit"
        raise InvalidName(f"{value[:100]!r} is no name for a user", hint=hint)
    return value
