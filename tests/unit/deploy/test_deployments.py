"""The desired state: deploying, rolling back and removing write it, all or nothing."""

import pytest

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import (
    EndpointNotFound,
    Invalid,
    InvalidName,
    InvalidOption,
    RevisionNotFound,
    RolloutInProgress,
    RolloutNotFound,
)
from mofang.base.domain.registry import Artifact, FileEntry, Lineage, ModelVersion
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.storage.database import Database
from mofang.run.deploy.deployments import Deployments
from mofang.run.deploy.store import DeploymentStore

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "INT64", (-1,)),))


def version(number: int) -> ModelVersion:
    artifact = Artifact("onnx", (FileEntry("model.onnx", f"{number:064}", 10),), SIGNATURE, ("a", "b"))
    return ModelVersion("digits", number, artifact.digest, artifact, Lineage(), created_at=1)


@pytest.fixture
def store(database: Database) -> DeploymentStore:
    return DeploymentStore(database)


@pytest.fixture
def deployments(store: DeploymentStore) -> Deployments:
    return Deployments(store)


def finish(store: DeploymentStore, rollout_id: str) -> None:
    for state in ("starting", "switching", "draining", "done"):
        store.move_rollout(rollout_id, state)  # type: ignore[arg-type]


def test_a_deployment_becomes_a_numbered_revision_and_a_rollout(
    deployments: Deployments, store: DeploymentStore
) -> None:
    rollout = deployments.deploy("digits", version(1), limits=ReplicaLimits(max_batch_rows=8))
    assert (rollout.from_revision, rollout.to_revision, rollout.state) == (0, 1, "pending")
    [revision] = deployments.revisions("digits")
    assert revision.digest == version(1).digest
    assert revision.signature == SIGNATURE
    assert revision.limits.max_batch_rows == 8
    assert deployments.get_endpoint("digits").active_revision == 0
    finish(store, rollout.id)
    assert deployments.get_endpoint("digits").active_revision == 1
    assert deployments.get_rollout(rollout.id).ended_at > 0


def test_options_of_the_engine_belong_to_a_revision(deployments: Deployments) -> None:
    deployments.deploy("digits", version(1), options={"threads": "3"})
    [revision] = deployments.revisions("digits")
    assert revision.options == {"threads": 3}
    for wrong in ({"slots": 2}, {"threads": -1}, {"threads": "many"}, {"threads": 10**9}):
        with pytest.raises(InvalidOption, match=next(iter(wrong))):
            deployments.deploy("other", version(1), options=wrong)  # type: ignore[arg-type]
    assert [endpoint.name for endpoint in deployments.list_endpoints()] == ["digits"]


def test_the_switch_happens_when_draining_begins_and_not_before(
    deployments: Deployments, store: DeploymentStore
) -> None:
    rollout = deployments.deploy("digits", version(1))
    store.move_rollout(rollout.id, "switching")
    assert deployments.get_endpoint("digits").active_revision == 0
    store.move_rollout(rollout.id, "draining")
    assert deployments.get_endpoint("digits").active_revision == 1


def test_a_second_rollout_waits_for_the_first(deployments: Deployments, store: DeploymentStore) -> None:
    first = deployments.deploy("digits", version(1))
    with pytest.raises(RolloutInProgress, match=first.id):
        deployments.deploy("digits", version(2))
    store.move_rollout(first.id, "failed", "engine.load: no")
    assert deployments.deploy("digits", version(2)).to_revision > first.to_revision


def test_rolling_back_goes_to_what_served_before(deployments: Deployments, store: DeploymentStore) -> None:
    for number in (1, 2):
        finish(store, deployments.deploy("digits", version(number)).id)
    back = deployments.roll_back("digits")
    assert (back.from_revision, back.to_revision, back.is_rollback) == (2, 1, True)
    finish(store, back.id)
    assert deployments.roll_back("digits").to_revision == 2


def test_rolling_back_without_a_past_says_so(deployments: Deployments, store: DeploymentStore) -> None:
    finish(store, deployments.deploy("digits", version(1)).id)
    with pytest.raises(RevisionNotFound, match="no earlier revision"):
        deployments.roll_back("digits")
    with pytest.raises(RevisionNotFound):
        deployments.roll_back("digits", 9)


def test_revision_numbers_are_never_used_twice(deployments: Deployments, store: DeploymentStore) -> None:
    finish(store, deployments.deploy("digits", version(1)).id)
    deployments.delete("digits")
    with pytest.raises(EndpointNotFound):
        deployments.get_endpoint("digits")
    assert deployments.list_endpoints() == []
    assert deployments.deploy("digits", version(1)).to_revision == 2


def test_the_desired_state_holds_what_matters_now(deployments: Deployments, store: DeploymentStore) -> None:
    for number in (1, 2):
        finish(store, deployments.deploy("digits", version(number)).id)
    assert set(store.desired().revisions) == {"digits/2"}
    deployments.deploy("digits", version(1))
    desired = store.desired()
    assert set(desired.revisions) == {"digits/2", "digits/3"}
    assert [rollout.to_revision for rollout in desired.rollouts] == [3]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda d: d.deploy("../etc", version(1)), InvalidName),
        (lambda d: d.deploy("digits", version(1), replicas=0), Invalid),
        (lambda d: d.deploy("digits", version(1), replicas=65), Invalid),
        (lambda d: d.roll_back("nothing"), EndpointNotFound),
        (lambda d: d.delete("nothing"), EndpointNotFound),
        (lambda d: d.get_rollout("roll_none"), RolloutNotFound),
    ],
)
def test_what_cannot_be_is_refused(deployments: Deployments, call: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(deployments)  # type: ignore[operator]
