"""Deployment: what an endpoint serves, how it got there, and back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mofang.base.domain.deployment import ROLLOUT_ENDED, Audience, Endpoint, PlacementName, Revision, Rollout
from mofang.base.domain.errors import DeadlineExceeded, RolloutFailed
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment

POLL_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class EndpointSummary:
    """An endpoint, the revision that answers, and the newest rollout."""

    endpoint: Endpoint
    active: Revision | None
    rollout: Rollout | None


@dataclass(frozen=True, slots=True)
class EndpointDetail:
    """An endpoint with all its revisions and rollouts, newest first, and the state of its replicas."""

    endpoint: Endpoint
    active: Revision | None
    revisions: list[Revision]
    rollouts: list[Rollout]
    replicas: list[Mapping[str, Any]] = field(default_factory=list)
    audience: Audience = field(default_factory=Audience)


@dataclass(frozen=True, slots=True)
class Started:
    """The rollout a change became."""

    rollout: Rollout


class Deploy:
    """``client.deploy``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list_endpoints(self, *, limit: int | None = None) -> list[EndpointSummary]:
        """Return all endpoints by name."""
        return [*walk(self._wire, "/endpoints", EndpointSummary, limit=limit)]

    def get_endpoint(self, name: str) -> EndpointDetail:
        """Return an endpoint with its revisions, rollouts and replicas."""
        return self._wire.get(f"/endpoints/{segment(name)}", EndpointDetail)

    def roll_out(
        self,
        endpoint: str,
        version: str = "",
        *,
        variant: str = "",
        placement: PlacementName | None = None,
        replicas: int | None = None,
        limits: Mapping[str, Any] | None = None,
        private: bool = False,
        options: Mapping[str, int | str] | None = None,
        adapters: Mapping[str, str] | None = None,
        tuned: bool = False,
        wait: bool = True,
        timeout_seconds: float = 300.0,
    ) -> Rollout:
        """Let ``endpoint`` answer with ``MODEL[@VERSION]`` (left out: the newest version of the model of that name).

        ``variant`` names a variant of it, or says which to choose: ``fastest within 0.5 points``, ``smallest``,
        ``cheapest``.

        ``options`` are the engine's, as ``{"context": 4096, "slots": 8}``: those that are not named are as usual.

        ``adapters`` are LoRA adapters (versions) by the names that requests give: ``{"terse": "terse@1"}`` is asked as
        model ``ENDPOINT:terse``.

        With ``tuned`` it runs as its newest tuning found best, but for what is given here.

        What is left out of ``placement``, ``replicas``, ``limits`` (fields of ``ReplicaLimits``), ``options`` and
        ``adapters`` stays as it is. A new endpoint is for everyone, or if ``private`` for its own project alone. With
        ``wait`` the switch is done on return; raises RolloutFailed if the new version was refused: the old one serves
        on.
        """
        body: dict[str, Any] = {"version": version or endpoint, "placement": placement, "replicas": replicas}
        body["limits"] = dict(limits) if limits else None
        body["options"] = dict(options) if options is not None else None
        body["adapters"] = dict(adapters) if adapters is not None else None
        sent = {name: value for name, value in body.items() if value is not None}
        sent |= {"tuned": True} if tuned else {}
        sent |= ({"private": True} if private else {}) | ({"variant": variant} if variant else {})
        started = self._wire.call("PUT", f"/endpoints/{segment(endpoint)}", Started, sent)
        return self.wait(started.rollout.id, timeout_seconds=timeout_seconds) if wait else started.rollout

    def roll_back(
        self,
        endpoint: str,
        revision: int | None = None,
        *,
        wait: bool = True,
        timeout_seconds: float = 300.0,
    ) -> Rollout:
        """Return to an earlier ``revision`` (left out: the one before)."""
        body = {} if revision is None else {"revision": revision}
        started = self._wire.call("POST", f"/endpoints/{segment(endpoint)}/rollback", Started, body)
        return self.wait(started.rollout.id, timeout_seconds=timeout_seconds) if wait else started.rollout

    def share(
        self, endpoint: str, *, everyone: bool = False, tenants: Sequence[str] = (), projects: Sequence[str] = ()
    ) -> Audience:
        """Say who may ask ``endpoint`` besides its own project, in place of what was said before; in force on return.

        With nothing given it is private.
        """
        body = {"everyone": everyone, "tenants": list(tenants), "projects": list(projects)}
        return self._wire.call("PUT", f"/endpoints/{segment(endpoint)}/audience", Audience, body)

    def delete(self, endpoint: str) -> None:
        """Take an endpoint away; its history stays in the audit log and on invoices."""
        self._wire.send("DELETE", f"/api/v1/endpoints/{segment(endpoint)}")

    def get_rollout(self, rollout: str, *, wait_seconds: float = 0.0) -> Rollout:
        """Return a rollout; with ``wait_seconds`` the answer may take that long, until it has ended."""
        return self._wire.get(f"/rollouts/{segment(rollout)}", Rollout, wait_seconds=wait_seconds)

    def wait(self, rollout: str, *, timeout_seconds: float = 300.0) -> Rollout:
        """Wait until a rollout is done; raise RolloutFailed with its reason, or DeadlineExceeded."""
        deadline = time.monotonic() + timeout_seconds
        while (left := deadline - time.monotonic()) > 0:
            found = self.get_rollout(rollout, wait_seconds=min(left, POLL_SECONDS))
            if found.state == "failed":
                raise RolloutFailed(found.reason or f"rollout {rollout} failed", hint="what served before still serves")
            if found.state in ROLLOUT_ENDED:
                return found
        raise DeadlineExceeded(f"rollout {rollout} has not ended after {timeout_seconds:g} s", hint="it goes on")
