"""Decisions of deployment, as tables."""

from mofang.base.domain.deployment import Endpoint, ReplicaLimits, ReplicaSpec, Revision, Rollout
from mofang.base.domain.tensors import Signature
from mofang.run.deploy.plan import Actions, build_snapshot, plan, served, wanted_replicas
from mofang.run.deploy.store import Desired


def revision(number: int, **changes: object) -> Revision:
    fields = {"model": "m", "version": number, "digest": f"sha256:{number}", "engine": "onnx"}
    return Revision(endpoint="e", number=number, signature=Signature((), ()), **{**fields, **changes})


def locate(of: Revision) -> tuple[ReplicaSpec, ...]:
    return tuple(
        ReplicaSpec(f"{of.key}/{index}", of.engine, "/folder", of.placement, ReplicaLimits(), "/socket")
        for index in range(of.replicas)
    )


def desired(active: int, rollout: Rollout | None = None, **changes: object) -> Desired:
    revisions = {f"e/{n}": revision(n, **changes) for n in (1, 2)}
    return Desired((Endpoint("e", active, 0),), revisions, (rollout,) if rollout else ())


def moving(state: str, from_revision: int = 1) -> Rollout:
    return Rollout("r", "e", from_revision, 2, state)  # type: ignore[arg-type]


def numbers(state: Desired) -> dict[int, int]:
    return {of.number: share for of, share in served(state)}


def test_before_the_switch_the_new_revision_is_known_but_gets_no_traffic() -> None:
    assert numbers(desired(1, moving("pending"))) == {1: 100, 2: 0}
    assert numbers(desired(1, moving("switching"))) == {1: 100, 2: 0}


def test_after_the_switch_the_old_revision_is_gone_from_the_snapshot_but_its_worker_stays() -> None:
    state = desired(2, moving("draining"))
    assert numbers(state) == {2: 100}
    assert {spec.id for spec in wanted_replicas(state, locate)} == {"e/1/0", "e/2/0"}


def test_a_first_deployment_gets_no_traffic_before_it_is_ready() -> None:
    state = desired(0, moving("starting", from_revision=0))
    assert numbers(state) == {2: 0}
    assert build_snapshot(1, state, {}, locate, {}).endpoints["e"].traffic == {}


def test_replicas_in_the_gateway_need_no_process() -> None:
    assert wanted_replicas(desired(1, placement="thread"), locate) == []


def test_every_replica_of_a_revision_is_wanted() -> None:
    assert [spec.id for spec in wanted_replicas(desired(1, replicas=3), locate)] == ["e/1/0", "e/1/1", "e/1/2"]


def test_what_is_missing_starts_and_what_is_not_wanted_stops() -> None:
    wanted = locate(revision(2, replicas=2))
    assert plan(wanted, {"e/1/0", "e/2/1"}) == Actions(start=wanted[:1], stop=("e/1/0",))
    assert plan(wanted, {"e/2/0", "e/2/1"}) == Actions(start=(), stop=())


def test_a_broken_revision_carries_its_reason() -> None:
    snapshot = build_snapshot(7, desired(1), {}, locate, {"e/1": "its worker died"})
    assert snapshot.number == 7
    assert snapshot.endpoints["e"].routes[1].broken == "its worker died"
