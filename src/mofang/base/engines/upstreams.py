"""Other servers that may be asked: where each is and which key it wants, as a file of the operator's says.

The setting ``upstreams`` names the file. Whoever may push a model or start a job names an upstream, and neither sends
a key anywhere nor learns it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from mofang.base.domain.errors import EngineLoadFailed, InvalidSettings


class Upstream(msgspec.Struct, forbid_unknown_fields=True):
    """One table of the operator's file."""

    base_url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^/?#@]+(/[^?#@]*)?$")]
    key_file: str = ""
    key_env: str = ""

    def key(self) -> str:
        """Read the key, which may have been replaced; empty if the upstream wants none. Raises EngineLoadFailed."""
        try:
            text = Path(self.key_file).read_text() if self.key_file else os.environ.get(self.key_env, "")
        except OSError as error:
            raise EngineLoadFailed(f"the key of the upstream cannot be read: {error.strerror}") from error
        if self.key_env and not text:
            raise EngineLoadFailed(f"the key of the upstream is missing: {self.key_env} is not set")
        return text.strip()


def look_up(file: str, name: str) -> Upstream:
    """Return the table ``name`` of the operator's file. Raises InvalidSettings or EngineLoadFailed."""
    if not file:
        raise InvalidSettings("no upstreams are known", hint="set MOFANG_UPSTREAMS to a file that says where they are")
    try:
        known = msgspec.convert(tomllib.loads(Path(file).read_text()), dict[str, Upstream])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidSettings(f"the file of upstreams cannot be read: {error}") from error
    if name not in known:
        raise EngineLoadFailed(f"no upstream is called {name!r}", hint=f"known are: {', '.join(sorted(known))}")
    return known[name]
