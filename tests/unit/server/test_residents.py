"""Models loaded on demand, as the controller decides on them."""

import os
import time

from mofang.base.domain.deployment import GatewayReport, ReplicaLimits, Revision
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Signature
from mofang.surface.server.link import Word
from mofang.surface.server.residents import Residents
from mofang.surface.server.restarts import ProcessState
from mofang.surface.server.telemetry import Telemetry


def revision(name: str, *, on_demand: bool = True) -> Revision:
    limits = ReplicaLimits(on_demand=on_demand)
    return Revision(name, 1, name, 1, "sha256:0", "onnx", Signature((), ()), limits=limits)


class House:
    """Endpoints ``a`` to ``d``, and what runs of them (this very process, which holds memory)."""

    def __init__(self, most_bytes: int = 1 << 40) -> None:
        self.revisions = [revision(name) for name in "abcd"]
        self.running: dict[str, int] = {}  # key, and when it was started
        self.residents = Residents(most_bytes, at_once=2)

    def asleep(self, asked: dict[str, float], waiting: set[str] = frozenset(), others: int = 0) -> set[str]:  # type: ignore[assignment]
        report = GatewayReport("g", 1, asked=asked, waiting=frozenset(waiting))
        words = {"g": Word(report, Telemetry().counts(0, 0, {}, {}))}

        def workers(of: Revision) -> list[ProcessState]:
            started = self.running.get(of.key)
            return [] if started is None else [ProcessState(of.key, "running", os.getpid(), started_at=started)]

        return self.residents.asleep(self.revisions, set(), words, workers, others)


def test_few_load_at_once_and_the_others_in_the_order_in_which_they_came() -> None:
    house, now = House(), time.monotonic()
    assert house.asleep({"a/1": now}) == {"b/1", "c/1", "d/1"}
    house.running = {"a/1": now_us()}
    everyone = {"a/1", "b/1", "c/1", "d/1"}
    asked = dict.fromkeys(sorted(everyone), now)
    assert house.asleep(asked, everyone) == {"c/1", "d/1"}
    house.running["b/1"] = now_us()
    assert house.asleep(asked, everyone) == {"c/1", "d/1"}
    assert house.asleep(asked, {"b/1", "c/1", "d/1"}) == {"d/1"}  # a is ready


def test_one_that_loads_for_ever_does_not_keep_others_from_it() -> None:
    house, now = House(), time.monotonic()
    house.running = {"a/1": now_us() - 60_000_000, "b/1": now_us() - 60_000_000}
    asked = dict.fromkeys(("a/1", "b/1", "c/1"), now)
    assert house.asleep(asked, {"a/1", "b/1", "c/1"}) == {"d/1"}


def test_what_is_always_loaded_is_never_unloaded_however_short_memory_is() -> None:
    house, before = House(most_bytes=0), time.monotonic() - 100
    house.revisions[0] = revision("a", on_demand=False)
    house.asleep({})
    house.running = {"a/1": 1, "b/1": 1}
    assert house.asleep({"a/1": before, "b/1": before}) == {"b/1", "c/1", "d/1"}


def test_what_a_nursery_holds_counts() -> None:
    house, before = House(most_bytes=1 << 40), time.monotonic() - 100
    house.asleep({})
    house.running = {"a/1": 1}
    assert house.asleep({"a/1": before}) == {"b/1", "c/1", "d/1"}
    assert "a/1" in house.asleep({"a/1": before}, others=1 << 40)
