"""The inference path, from a parsed request to a recorded answer, over real replicas in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.access import KeyEntry, Principal, Scope
from mofang.base.domain.deployment import (
    Audience,
    EndpointRoutes,
    ReplicaLimits,
    ReplicaSpec,
    Revision,
    Route,
    Snapshot,
)
from mofang.base.domain.errors import (
    Draining,
    EndpointNotFound,
    EngineLoadFailed,
    ExpiredKey,
    Forbidden,
    OutOfNetwork,
    ReplicaUnavailable,
    Starting,
    StorageFull,
    TensorName,
    TensorShape,
    Unauthenticated,
    UnknownKey,
)
from mofang.base.domain.inference import InferRequest
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import new_key
from mofang.base.placement.thread import ThreadPlacement
from mofang.run.serve.admitting import admit_by_role
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.lane import Lane

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)), TensorSpec("z", "INT64", (-1,)))
)
GOOD, OLD, METRICS = new_key(), new_key(), new_key()


class Sum:
    """An engine that adds up each row, times the number its folder is called."""

    signature = SIGNATURE

    def __init__(self, folder: Path, options: Mapping[str, int | str]) -> None:
        if folder.name == "damaged":
            raise EngineLoadFailed("the file is damaged")
        self._factor = int(folder.name)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        total = inputs["x"].sum(axis=1, dtype=np.float32) * np.float32(self._factor)
        return {"y": total, "z": total.astype(np.int64)}

    def close(self) -> None:
        """Nothing to let go of."""


def route(number: int, folder: str | None = None, broken: str = "") -> Route:
    revision = Revision("sum", number, "m", number, f"sha256:{number}", "test", SIGNATURE, placement="thread")
    spec = ReplicaSpec(f"sum/{number}/0", "test", f"/{folder or number}", "thread", ReplicaLimits())
    return Route(revision, (spec,), broken)


def snapshot(number: int, *routes: tuple[Route, int]) -> Snapshot:
    by_number = {each.revision.number: each for each, _ in routes}
    traffic = {each.revision.number: share for each, share in routes if share}
    keys = {
        GOOD.id: KeyEntry(GOOD.id, GOOD.secret_sha256, "acme", "shop", "consumer"),
        OLD.id: KeyEntry(OLD.id, OLD.secret_sha256, "acme", "shop", "consumer", expires_at=1),
    }
    return Snapshot(number, {"sum": EndpointRoutes("sum", by_number, traffic)}, keys)


ADA = Principal(GOOD.id, "acme", "shop", "consumer")


class Bench:
    """A lane with its fleet, and what it recorded and observed."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self.observed: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self.fleet = Fleet(
            "g", {"thread": ThreadPlacement(lambda _, folder, options: Sum(folder, options))}, self.changed.set
        )
        self.lane = Lane(self.fleet, admit=admit_by_role, record=self.record, observe=self.observe)

    def record(self, usage: UsageRecord, written: Callable[[Exception | None], None]) -> None:
        self.records.append(usage)
        asyncio.get_running_loop().call_soon(written, None)

    def observe(self, endpoint: str, outcome: str, seconds: float, count: int = 1) -> None:
        self.observed += [(endpoint, outcome)] * count

    async def adopt(self, wanted: Snapshot) -> None:
        self.fleet.adopt(wanted)
        async with asyncio.timeout(10):
            while not self.fleet.settled:
                self.changed.clear()
                await self.changed.wait()

    async def ask(self, rows: list[list[float]], **changes: object) -> tuple[int, list[float]]:
        request = InferRequest("sum", {"x": np.array(rows, np.float32)}, **changes)  # type: ignore[arg-type]
        principal = self.lane.authenticate(f"Bearer {GOOD.text}")
        answer = await self.lane.infer(
            request, principal, request_id=f"r{len(self.records)}", deadline=time.monotonic() + 5, input_bytes=16
        )
        return answer.version, [float(value) for value in answer.outputs["y"]]


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            await scenario(bench)
        finally:
            await bench.fleet.close()

    asyncio.run(main())


def test_an_answer_names_its_version_and_is_recorded_once() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        assert await bench.ask([[1, 2], [3, 4]]) == (1, [3.0, 7.0])
        [record] = bench.records
        assert (record.tenant, record.project, record.key_id) == ("acme", "shop", GOOD.id)
        assert (record.digest, record.version, record.revision, record.outcome) == ("sha256:1", 1, 1, "ok")
        assert {"requests": 1, "rows": 2, "input_bytes": 16, "output_bytes": 24}.items() <= record.quantities.items()
        assert bench.observed == [("sum", "ok")]

    run(scenario)


def test_a_switch_takes_effect_for_the_next_request() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        await bench.adopt(snapshot(2, (route(1), 100), (route(2), 0)))
        assert (await bench.ask([[1, 1]]))[0] == 1
        assert bench.fleet.report().opened == {"sum/1/0", "sum/2/0"}
        await bench.adopt(snapshot(3, (route(2), 100)))
        assert await bench.ask([[1, 1]]) == (2, [4.0])

    run(scenario)


def test_statistics_count_what_was_answered_and_what_failed() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        assert [entry["inference_count"] for entry in bench.lane.statistics(ADA)] == [0]
        await asyncio.gather(bench.ask([[1, 2], [3, 4]]), bench.ask([[5, 6]]))
        await bench.ask([[1, 2]])
        with pytest.raises(TensorShape):
            await bench.ask([[1, 2, 3]])
        (entry,) = bench.lane.statistics(ADA, "sum", "1")
        assert (entry["name"], entry["version"]) == ("sum", "1")
        assert (entry["inference_count"], entry["execution_count"]) == (4, 2)
        assert {batch["batch_size"]: batch["compute_infer"]["count"] for batch in entry["batch_stats"]} == {3: 1, 1: 1}
        counts = {name: duration["count"] for name, duration in entry["inference_stats"].items()}
        assert counts == {"success": 3, "fail": 1, "queue": 3, "compute_infer": 3}
        times = {name: duration["ns"] for name, duration in entry["inference_stats"].items()}
        assert 0 < times["compute_infer"] <= times["success"]
        assert 0 < times["fail"] < times["success"]
        for endpoint, version in (("sum", "2"), ("none", "")):
            with pytest.raises(EndpointNotFound):
                bench.lane.statistics(ADA, endpoint, version)

    run(scenario)


def test_an_old_snapshot_does_not_undo_a_new_one() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(5, (route(2), 100)))
        await bench.adopt(snapshot(4, (route(1), 100)))
        assert (await bench.ask([[1, 1]]))[0] == 2

    run(scenario)


def test_a_version_that_has_no_traffic_cannot_be_asked() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100), (route(2), 0)))
        assert (await bench.ask([[1, 1]], version="1"))[0] == 1
        with pytest.raises(EndpointNotFound, match="serves version 1, not '2'"):
            await bench.ask([[1, 1]], version="2")

    run(scenario)


def test_a_replica_that_cannot_load_is_reported_and_refused_with_its_reason() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1, "damaged"), 100)))
        assert bench.fleet.report().failed == {"sum/1/0": ("engine.load", "the file is damaged")}
        assert not bench.lane.is_ready(ADA, "sum")
        with pytest.raises(ReplicaUnavailable, match="the file is damaged"):
            await bench.ask([[1, 1]])
        assert bench.records == []
        assert bench.observed == [("sum", "replica.unavailable")]

    run(scenario)


def test_a_broken_revision_answers_with_its_reason() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1, broken="its worker died 5 times"), 100)))
        with pytest.raises(ReplicaUnavailable, match="died 5 times"):
            await bench.ask([[1, 1]])

    run(scenario)


def test_requests_that_do_not_fit_are_refused_and_cost_nothing() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        with pytest.raises(TensorShape):
            await bench.ask([[1, 2, 3]])
        with pytest.raises(TensorName, match="'w'"):
            await bench.ask([[1, 2]], outputs=("w",))
        with pytest.raises(EndpointNotFound):
            bench.lane.route(ADA, "other")
        assert bench.records == []

    run(scenario)


def test_outputs_come_in_the_order_asked_for() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        request = InferRequest("sum", {"x": np.ones((1, 2), np.float32)}, outputs=("z", "y"))
        principal = bench.lane.authenticate(f"Bearer {GOOD.text}")
        answer = await bench.lane.infer(
            request, principal, request_id="r", deadline=time.monotonic() + 5, input_bytes=8
        )
        assert list(answer.outputs) == ["z", "y"]

    run(scenario)


def test_an_answer_that_cannot_be_recorded_is_not_given() -> None:
    async def scenario(bench: Bench) -> None:
        def full(usage: UsageRecord, written: Callable[[Exception | None], None]) -> None:
            asyncio.get_running_loop().call_soon(written, StorageFull("no space left"))

        await bench.adopt(snapshot(1, (route(1), 100)))
        lane = Lane(bench.fleet, admit=admit_by_role, record=full, observe=bench.observe)
        bench.lane = lane
        with pytest.raises(StorageFull):
            await bench.ask([[1, 1]])
        assert bench.observed == [("sum", "storage.full")]

    run(scenario)


def test_keys_are_those_of_the_snapshot() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        assert bench.lane.authenticate(f"bearer {GOOD.text}").project == "shop"
        with pytest.raises(ExpiredKey):
            bench.lane.authenticate(f"Bearer {OLD.text}")
        with pytest.raises(UnknownKey):
            bench.lane.authenticate(f"Bearer {METRICS.text}")
        for value in (None, "", f"Basic {GOOD.text}"):
            with pytest.raises(Unauthenticated):
                bench.lane.authenticate(value)
        revoked = Snapshot(2, bench.fleet.snapshot.endpoints, {})
        await bench.adopt(revoked)
        with pytest.raises(UnknownKey):
            bench.lane.authenticate(f"bearer {GOOD.text}")

    run(scenario)


def test_a_good_key_is_not_called_unknown_before_the_first_snapshot() -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(Starting) as caught:
            bench.lane.authenticate(f"Bearer {GOOD.text}")
        assert caught.value.retry_after_seconds == 1
        await bench.adopt(snapshot(1, (route(1), 100)))
        assert bench.lane.authenticate(f"Bearer {GOOD.text}").project == "shop"

    run(scenario)


def test_a_draining_server_takes_no_more() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        bench.lane.draining = True
        assert not bench.lane.ready
        assert not bench.lane.is_ready(ADA, "sum")
        with pytest.raises(Draining):
            await bench.ask([[1, 1]])

    run(scenario)


def test_an_endpoint_is_there_for_its_audience_only() -> None:
    lab = Principal("k", "other", "lab", "consumer")
    cases = (
        (Audience(), True, True),
        (Audience(everyone=False), True, False),
        (Audience(everyone=False, projects=("lab",)), True, True),
        (Audience(everyone=False, tenants=("other",)), True, True),
        (Audience(everyone=False, tenants=("third",), projects=("shop2",)), True, False),
    )

    async def scenario(bench: Bench) -> None:
        for number, (audience, *sees) in enumerate(cases, 1):
            plain = snapshot(number, (route(1), 100))
            routes = replace(plain.endpoints["sum"], owner=Scope("acme", "shop"), audience=audience)
            await bench.adopt(replace(plain, endpoints={"sum": routes}))
            request = InferRequest("sum", {"x": np.ones((1, 2), np.float32)}, version="9")
            for principal, visible in zip((ADA, lab), sees, strict=True):
                assert bench.lane.names(principal) == (["sum"] if visible else [])
                told = "serves version 1, not '9'" if visible else "there is no endpoint 'sum'"
                with pytest.raises(EndpointNotFound, match=told):
                    bench.lane.route(principal, "sum", "9")
                with pytest.raises(EndpointNotFound, match=told):
                    await bench.lane.infer(request, principal, request_id="r", deadline=0.0, input_bytes=1)

    run(scenario)


def test_a_key_is_bound_to_its_networks_also_when_it_is_known_already() -> None:
    async def scenario(bench: Bench) -> None:
        plain = snapshot(1, (route(1), 100))
        bound = {GOOD.id: replace(plain.keys[GOOD.id], networks=("203.0.113.0/24",))}
        await bench.adopt(replace(plain, keys=bound))
        behind = Lane(
            bench.fleet,
            admit=admit_by_role,
            record=bench.record,
            observe=bench.observe,
            trusted_proxies=("10.0.0.0/8",),
        )
        key = f"Bearer {GOOD.text}"
        for _ in range(2):
            assert bench.lane.authenticate(key, "203.0.113.5").key_id == GOOD.id
            assert behind.authenticate(key, "10.1.1.1", "203.0.113.5").key_id == GOOD.id
            for lane, peer, forwarded in (
                (bench.lane, "198.51.100.1", None),
                (bench.lane, "198.51.100.1", "203.0.113.5"),
                (bench.lane, "", None),
                (behind, "10.1.1.1", None),
                (behind, "10.1.1.1", "203.0.113.5, 198.51.100.1"),
            ):
                with pytest.raises(OutOfNetwork):
                    lane.authenticate(key, peer, forwarded)

    run(scenario)


def test_a_role_that_neither_asks_nor_looks_sees_no_endpoint() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.adopt(snapshot(1, (route(1), 100)))
        clerk = Principal("k", "acme", "shop", "billing")
        for ask in (bench.lane.names, bench.lane.statistics):
            with pytest.raises(Forbidden, match="'billing'"):
                ask(clerk)
        with pytest.raises(Forbidden):
            bench.lane.route(clerk, "sum")

    run(scenario)
