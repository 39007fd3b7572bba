"""What the requests of one gateway share: who was handed in to admit, record and count, and what is in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mofang.base.domain.access import Principal
from mofang.base.domain.usage import UsageRecord, UsageSheet
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.ticket import Ticket
from mofang.run.serve.admitting import Admit, Admitted
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.plan import Plan
from mofang.run.serve.visits import UNTIMED, Timing, Trace, Visit, Watch, look

Record = Callable[[UsageRecord, Callable[[Exception | None], None]], None]
"""Call back when the record is in the journal, or with StorageFull if it cannot be."""
RecordAll = Callable[[Sequence[UsageSheet], Callable[[Exception | None], None]], None]
"""The same for sheets; may call back before it returns."""


class Observe(Protocol):
    """Counts answers."""

    def __call__(self, endpoint: str, outcome: str, seconds: float, count: int = 1, /) -> None:
        """Count answers that took ``seconds`` each; an outcome is "ok" or the error's code."""


class Measure(Protocol):
    """Counts where the time of answered requests went."""

    def __call__(self, endpoint: str, seconds: Stages, batch_rows: int, count: int = 1, /) -> None:
        """Count requests that were computed together, ``batch_rows`` rows in all, and took this long each."""


class Stages(NamedTuple):
    """Seconds that a request spent in each stage; together they are the whole but for a few instructions."""

    parse: float  # reading the body and knowing who asks; only of requests that travel together, or over REST
    travel: float  # admission, and the way to the engine and back
    queue: float  # waiting there
    compute: float  # as long as the engine took for the batch
    record: float  # writing its usage into the journal
    write: float  # making the answer and handing it to the socket


@dataclass(slots=True)
class Desk:
    """Shared by all requests of a lane."""

    fleet: Fleet
    admit: Admit
    record: Record
    observe: Observe
    record_all: RecordAll | None = None  # without it every request travels alone
    measure: Measure | None = None
    watch: Watch | None = None

    def send(self, passage: Ticket, plan: Plan) -> ReplicaHandle:
        """Queue an admitted request; the replica, which is returned, tells it the outcome, at the deadline at last."""
        replica = self.fleet.replica(plan.route)
        replica.admit(passage)
        return replica

    def begin(self, plan: Plan, count: int = 1) -> None:
        """Count requests as in flight."""
        self.fleet.enter(plan.revision, count)

    def end(self, plan: Plan, held: Admitted, outcome: str, started: float, count: int = 1) -> None:
        """Count requests that had begun, and have ended."""
        self.let_go(plan, held, count)
        self.count(plan, outcome, started, count)

    def let_go(self, plan: Plan, held: Admitted, count: int = 1) -> None:
        """Count requests as in flight no longer."""
        self.fleet.leave(plan.revision, count)
        held.release()

    def count(self, plan: Plan, outcome: str, started: float, count: int = 1) -> None:
        """Count outcomes."""
        seconds = time.monotonic() - started
        self.observe(plan.route.revision.endpoint, outcome, seconds, count)
        plan.statistics.ended(outcome == "ok", seconds, count)

    def tell(
        self,
        plan: Plan,
        principal: Principal,
        request_id: str,
        outcome: str,
        started: float,
        rows: int,
        input_bytes: int,
        timing: Timing = UNTIMED,
        trace: Trace | None = None,
    ) -> None:
        """Tell whoever looks of a request that has ended."""
        revision = plan.route.revision
        look(
            self.watch, trace,
            lambda: Visit(
                request_id, principal.tenant, principal.project, principal.key_id, revision.endpoint,
                revision.number, revision.version, revision.digest, outcome, rows, input_bytes, time.time_ns(),
                time.monotonic() - started, timing, trace,
            ),
        )  # fmt: skip
