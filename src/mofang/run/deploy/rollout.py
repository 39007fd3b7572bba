"""One rollout, from ``pending`` to ``done`` or ``failed``.

The order is what makes a switch lossless: the new replicas answer, every gateway has opened them, then traffic
switches in one Snapshot, then what is in flight on the old ones ends, then they stop. Until the switch any failure
leaves the old revision serving, untouched. Every step may be repeated, so a controller that died goes on where the
record says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol

from mofang.base.domain.deployment import ROLLOUT_ENDED, Revision, Rollout
from mofang.base.domain.errors import MofangError, RolloutFailed
from mofang.run.deploy.store import DeploymentStore

START_SECONDS = 120.0
DRAIN_SECONDS = 30.0


class Floor(Protocol):
    """What a rollout acts on; the controller provides it."""

    async def publish(self) -> None:
        """Send the desired state to every gateway; return when each has taken it."""

    async def started(self, revision: Revision) -> None:
        """Return when every replica of ``revision`` is ready; raise the reason if one cannot be."""

    async def opened(self, revision: Revision) -> None:
        """Return when every gateway can ask ``revision``; raise the reason if one cannot."""

    async def drained(self, revision_key: str) -> None:
        """Return when no gateway has a request in flight on the revision."""

    def kick(self) -> None:
        """Have the replicas compared with the desired state soon."""


async def roll_out(rollout: Rollout, store: DeploymentStore, floor: Floor) -> None:
    """Carry ``rollout`` to its end; never raises a MofangError, but records it as the reason."""
    rollout = await asyncio.to_thread(store.get_rollout, rollout.id)
    if rollout.state in ROLLOUT_ENDED:
        return
    try:
        if rollout.state != "draining":
            await _bring_up(rollout, store, floor)
        await _drain(rollout, floor)
        await asyncio.to_thread(store.move_rollout, rollout.id, "done")
    except MofangError as error:
        await asyncio.to_thread(store.move_rollout, rollout.id, "failed", f"{error.code}: {error.message}")
        await floor.publish()
    floor.kick()


async def _bring_up(rollout: Rollout, store: DeploymentStore, floor: Floor) -> None:
    key = f"{rollout.endpoint}/{rollout.to_revision}"
    revision = (await asyncio.to_thread(store.desired)).revisions[key]
    await asyncio.to_thread(store.move_rollout, rollout.id, "starting")
    floor.kick()
    await _within(START_SECONDS, floor.started(revision), "its replicas were not ready in time")
    await asyncio.to_thread(store.move_rollout, rollout.id, "switching")
    await floor.publish()
    await _within(START_SECONDS, floor.opened(revision), "a gateway could not reach its replicas in time")
    await asyncio.to_thread(store.move_rollout, rollout.id, "draining")


async def _drain(rollout: Rollout, floor: Floor) -> None:
    await floor.publish()
    if rollout.from_revision and rollout.from_revision != rollout.to_revision:
        # A request that outlasts the time is cut by its own deadline; the switch itself has long happened.
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await floor.drained(f"{rollout.endpoint}/{rollout.from_revision}")


async def _within(seconds: float, step: Awaitable[None], complaint: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await step
    except TimeoutError:
        raise RolloutFailed(f"{complaint} ({seconds:.0f} s)") from None
