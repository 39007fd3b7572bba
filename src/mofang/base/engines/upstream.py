"""Asks another server that speaks the OpenAI API, as if its model were one of ours. Loaded through the catalog.

The artifact is ``upstream.json``: which upstream, and what its model is called there. Where an upstream is and which
key it wants is the operator's to say, in a file of hers (setting ``upstreams``): versions hold no secrets, and whoever
may push a model cannot have keys sent elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from mofang.base.domain.errors import MofangError, UpstreamFailed
from mofang.base.domain.generation import Profile
from mofang.base.engines.base import Options
from mofang.base.engines.described import read_described
from mofang.base.engines.options import chosen as options_of
from mofang.base.engines.remote import ALTERNATIVES, Place, Remote
from mofang.base.engines.upstreams import look_up


class UpstreamEngine(Remote):
    """A model of another server. Options: ``file``, the operator's, and see :mod:`.options`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Look the upstream up; it is not asked yet. Raises InvalidModel, InvalidSettings or EngineLoadFailed."""
        self._described = read_described(folder)
        self._upstream = look_up(str(options.get("file", "")), self._described.upstream)
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
