"""Asks another server that speaks the OpenAI API, as if its model were one of ours. Loaded through the catalog.

The artifact is ``upstream.json``: which upstream, and what its model is called there. Where an upstream is and which
key it wants is the operator's to say, in a file of hers (setting ``upstreams``): versions hold no secrets, and whoever
may push a model cannot have keys sent elsewhere.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from mofang.base.domain.errors import EngineLoadFailed, InvalidSettings, MofangError, UpstreamFailed
from mofang.base.domain.generation import Profile
from mofang.base.engines.base import Options
from mofang.base.engines.described import read_described
from mofang.base.engines.options import chosen as options_of
from mofang.base.engines.remote import ALTERNATIVES, Place, Remote


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


class UpstreamEngine(Remote):
    """A model of another server. Options: ``file``, the operator's, and see :mod:`.options`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Look the upstream up; it is not asked yet. Raises InvalidModel, InvalidSettings or EngineLoadFailed."""
        self._described = read_described(folder)
        self._upstream = _look_up(str(options.get("file", "")), self._described.upstream)
        self._upstream.key()
        told = {name: value for name, value in options.items() if name != "file"}
        slots = int(options_of("upstream", told)["slots"])
        self.profile = Profile(
            context_tokens=self._described.context_tokens,
            slots=slots,
            cache_tokens=slots * self._described.context_tokens,
            chat_template="the upstream's own",
            constraints=("json", "schema"),
            alternatives=ALTERNATIVES,
        )
        super().__init__(self._described.model, slots)

    def place(self) -> Place:
        """See :class:`Remote`. The key is read anew: it may have been replaced."""
        return Place(self._upstream.base_url.rstrip("/"), self._upstream.key())

    def failure(self, why: str) -> MofangError:
        """See :class:`Remote`."""
        return UpstreamFailed(f"upstream {self._described.upstream!r}: {why}")


def _look_up(file: str, name: str) -> Upstream:
    if not file:
        raise InvalidSettings("no upstreams are known", hint="set MOFANG_UPSTREAMS to a file that says where they are")
    try:
        known = msgspec.convert(tomllib.loads(Path(file).read_text()), dict[str, Upstream])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidSettings(f"the file of upstreams cannot be read: {error}") from error
    if name not in known:
        raise EngineLoadFailed(f"no upstream is called {name!r}", hint=f"known are: {', '.join(sorted(known))}")
    return known[name]
