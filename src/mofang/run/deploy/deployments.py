"""What people ask of deployment: deploy a version, roll back, look, remove.

Called by the control API. Each change only writes the desired state; the controller's reconcile loop makes it true.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from mofang.base.domain.deployment import (
    Adapter,
    Audience,
    Endpoint,
    PlacementName,
    ReplicaLimits,
    Revision,
    Rollout,
)
from mofang.base.domain.errors import Invalid, RevisionNotFound
from mofang.base.domain.names import check_name
from mofang.base.domain.registry import ModelVersion
from mofang.base.engines.adapters import check_base, check_takes
from mofang.base.engines.catalog import generator_names
from mofang.base.engines.options import checked
from mofang.base.placement.padding import Padding
from mofang.run.deploy.store import DeploymentStore

MAX_REPLICAS = 64


class Deployments:
    """The desired state, as verbs."""

    def __init__(self, store: DeploymentStore) -> None:
        self._store = store

    def deploy(
        self,
        endpoint: str,
        version: ModelVersion,
        placement: PlacementName = "process",
        replicas: int = 1,
        limits: ReplicaLimits | None = None,
        audience: Audience | None = None,
        options: Mapping[str, int | str] | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> Rollout:
        """Ask that ``endpoint`` answer with ``version``; return the rollout that will do it.

        A new endpoint is for ``audience``, or for everyone. Raises RolloutInProgress if another has not ended,
        InvalidOption, PaddingRefused, AdapterRefused, and NameTaken. Call it inside a transaction to join others to it.
        """
        check_name("endpoint", endpoint)
        check_base(version.artifact.engine)
        check_takes(version.artifact.engine, adapters or ())
        if not 1 <= replicas <= MAX_REPLICAS:
            raise Invalid(f"an endpoint has 1 to {MAX_REPLICAS} replicas, not {replicas}")
        if limits is not None and limits.pad:
            Padding(version.artifact.signature, limits.pad, f"model {version.model!r}")
        if limits is not None and limits.on_demand:
            _check_on_demand(version.artifact.engine, placement)
        revision = self._store.add_revision(
            Revision(
                endpoint=endpoint,
                number=0,
                model=version.model,
                version=version.number,
                digest=version.digest,
                engine=version.artifact.engine,
                signature=version.artifact.signature,
                placement=placement,
                replicas=replicas,
                limits=replace(limits or ReplicaLimits(), join=version.artifact.signature.independent_rows),
                labels=version.artifact.labels,
                variant=version.variant,
                options=checked(version.artifact.engine, options or {}),
                adapters=dict(adapters or {}),
            ),
            audience,
        )
        return self._store.add_rollout(endpoint, revision.number, is_rollback=False)

    def roll_back(self, endpoint: str, revision: int | None = None) -> Rollout:
        """Ask for an earlier revision; without a number, the one that served before the active one."""
        to_revision = self._previous(endpoint) if revision is None else revision
        return self._store.add_rollout(endpoint, to_revision, is_rollback=True)

    def delete(self, endpoint: str) -> Endpoint:
        """Take an endpoint out of service; its revisions and usage stay on record."""
        return self._store.delete_endpoint(endpoint)

    def list_endpoints(self) -> list[Endpoint]:
        """Return the endpoints by name."""
        return self._store.list_endpoints()

    def standing(self, names: Collection[str]) -> tuple[dict[str, Revision], dict[str, Rollout]]:
        """Return the active revision and the newest rollout of each of these endpoints that has one, by its name."""
        return self._store.standing(names)

    def get_endpoint(self, name: str) -> Endpoint:
        """Return an endpoint, or raise EndpointNotFound."""
        return self._store.get_endpoint(name)

    def audience(self, endpoint: str) -> Audience:
        """Return who may ask an endpoint, or raise EndpointNotFound."""
        return self._store.audience(endpoint)

    def share(self, endpoint: str, audience: Audience) -> None:
        """Say who may ask an endpoint, in place of what was said before; raise EndpointNotFound."""
        self._store.share(endpoint, audience)

    def serving(self, endpoint: str) -> Revision:
        """Return the revision that answers for an endpoint; raise EndpointNotFound, RevisionNotFound if none does."""
        active = self.get_endpoint(endpoint).active_revision
        for revision in self.revisions(endpoint):
            if revision.number == active:
                return revision
        raise RevisionNotFound(f"endpoint {endpoint!r} has no revision that answers yet")

    def revisions(self, endpoint: str) -> list[Revision]:
        """Return the revisions of an endpoint, newest first."""
        return self._store.revisions(endpoint)

    def rollouts(self, endpoint: str) -> list[Rollout]:
        """Return the rollouts of an endpoint, newest first."""
        return self._store.rollouts(endpoint)

    def get_rollout(self, rollout_id: str) -> Rollout:
        """Return a rollout, or raise RolloutNotFound."""
        return self._store.get_rollout(rollout_id)

    def _previous(self, endpoint: str) -> int:
        active = self._store.get_endpoint(endpoint).active_revision
        for rollout in self._store.rollouts(endpoint):
            if rollout.state == "done" and rollout.to_revision == active and rollout.from_revision not in (0, active):
                return rollout.from_revision
        raise RevisionNotFound(
            f"endpoint {endpoint!r} has no earlier revision to go back to",
            hint="name one: `mofang rollback ENDPOINT --revision N`",
        )


def _check_on_demand(engine: str, placement: PlacementName) -> None:
    if placement != "process" or engine in generator_names():
        raise Invalid(
            "only models that answer with tensors, in processes of their own, are loaded on demand",
            hint="leave out `--on-demand`, or use `--placement process`",
        )
