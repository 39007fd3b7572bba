"""Placement ``thread``: the engine computes in the gateway's own process. Lowest latency, no isolation.

For models whose owner trusts them; what a worker runs is opened by the same :func:`open_replica`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from mofang.base.domain.deployment import ReplicaLimits, ReplicaSpec
from mofang.base.engines.base import Load, Options, warm_up
from mofang.base.placement.padding import prove
from mofang.base.placement.replica import Replica
from mofang.base.placement.tally import Tally, Uncounted


def open_replica(
    load: Load,
    engine: str,
    folder: Path,
    limits: ReplicaLimits,
    options: Options | None = None,
    tally: Tally | None = None,
) -> Replica:
    """Load and warm up; blocks. What it computes is counted by ``tally``.

    Raises EngineNotFound, EngineLoadFailed, WarmUpFailed or PaddingRefused.
    """
    loaded = load(engine, folder, options or {})
    try:
        warm_up(loaded)
        padding = prove(loaded, limits.pad) if limits.pad else None
    except BaseException:
        loaded.close()
        raise
    return Replica(loaded, limits, tally, padding)


class ThreadPlacement:
    """Opens replicas in this process; ``options`` are each engine's, by its name; ``tally`` makes what counts one's
    work."""

    def __init__(
        self,
        load: Load,
        options: Mapping[str, Options] | None = None,
        tally: Callable[[ReplicaSpec], Tally] = lambda _: Uncounted(),
    ) -> None:
        self._load = load
        self._options = options or {}
        self._tally = tally

    async def open(self, spec: ReplicaSpec) -> Replica:
        """See :meth:`Placement.open`. Loading happens in a thread, so that the gateway goes on answering."""
        options = {**self._options.get(spec.engine, {}), **spec.options}
        folder, tally = Path(spec.folder), self._tally(spec)
        return await asyncio.to_thread(open_replica, self._load, spec.engine, folder, spec.limits, options, tally)
