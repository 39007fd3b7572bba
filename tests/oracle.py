"""Clients that keep a ledger of their own, and the comparison of it with the server's: the guarantees G1 to G5.

A client knows of every request it sent whether it was answered in full (and by which request id, version and digest),
refused, or broken off. Nothing of the server is asked before the end.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import TracebackType

import grpc
import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageEvent
from mofang.surface.sdk.budget import BudgetState
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.raw import encode_raw
from servers import Server, wait_until

HOUR_US = 3_600_000_000
CAPPED, CAP = "capped", 50
INFER = "/inference.GRPCInferenceService/ModelInfer"
PRICES = """
currency = "EUR"

[[price]]
endpoint = "*"
meter = "requests"
per = 1
amount = "0.001"

[[price]]
endpoint = "*"
meter = "rows"
per = 1
amount = "0.0002"
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """A request whose answer came in full."""

    version: int
    digest: str
    rows: int


@dataclass
class Account:
    """What one client, with a key of its own, knows of its requests."""

    key: str
    key_id: str
    project: str
    answered: dict[str, Answered] = field(default_factory=dict)  # by request id
    refused: Counter[str] = field(default_factory=Counter)  # by code
    refused_ids: set[str] = field(default_factory=set)
    broken: list[int] = field(default_factory=list)  # rows of each request that was sent and not answered
    wrong: int = 0


class Oracle:
    """Threads that ask ``endpoint`` (y = version * x), by REST and gRPC in turn, while entered.

    ``clients`` may ask what they like; ``capped`` more share a project that may send ``CAP`` requests, and 20 more with
    every :meth:`top_up`: they are at its limit most of the time.
    """

    def __init__(self, server: Server, endpoint: str, clients: int = 6, capped: int = 2) -> None:
        self._server = server
        self._endpoint = endpoint
        server.client.identity.create_project(CAPPED)
        server.client.budget.set("project", CAPPED, CAP, "requests")
        projects = ["default"] * clients + [CAPPED] * capped
        created = [server.client.identity.create_key(project) for project in projects]
        self.accounts = [Account(each.key, each.id, project) for each, project in zip(created, projects, strict=True)]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(account, index)) for index, account in enumerate(self.accounts)
        ]

    def __enter__(self) -> Oracle:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    @property
    def answers(self) -> int:
        """Answers so far, of all clients."""
        return sum(len(account.answered) for account in self.accounts)

    def told(self) -> str:
        """Say how all requests ended, for a record of a proof."""
        refused = sum((account.refused for account in self.accounts), Counter[str]())
        broken = sum(len(account.broken) for account in self.accounts)
        return f"{self.answers} answered, {broken} broken off, refused {dict(refused)}"

    def wait_for_more(self, count: int, seconds: float = 60.0) -> None:
        """Return when ``count`` more answers have come."""
        goal = self.answers + count
        wait_until(lambda: self.answers >= goal, seconds, f"{count} more answers")

    def top_up(self) -> bool:
        """Let the capped project send 20 more requests; False if the control API does not answer just now."""
        try:
            self._server.client.budget.top_up(capped_budget(self._server).id, 20)
        except MofangError:
            return False
        return True

    def _ask(self, account: Account, index: int) -> None:
        chance = random.Random(index)
        ask = _Grpc(self._server, self._endpoint) if index % 2 else _Rest(self._server, self._endpoint)
        while not self._stop.is_set():
            try:
                if not ask.once(account, chance.randint(1, 5)):
                    self._stop.wait(0.02)
            except ConnectionError:
                self._stop.wait(0.05)  # nothing was sent: the server is not there just now
        ask.close()


class _Rest:
    def __init__(self, server: Server, endpoint: str) -> None:
        self._address = server.url.removeprefix("http://")
        self._path = f"/v2/models/{endpoint}/infer"
        self._connection = http.client.HTTPConnection(self._address, timeout=20)

    def once(self, account: Account, rows: int) -> bool:
        """Ask for ``rows``; False if it was refused. Raises ConnectionError if nothing could be sent."""
        data = [float(number) for number in range(rows * 4)]
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": data}]})
        if self._connection.sock is None:
            self._connection.connect()
        try:
            self._connection.request("POST", self._path, body, {"authorization": f"Bearer {account.key}"})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            account.broken.append(rows)
            self._connection.close()
            return True
        request_id = response.headers["x-request-id"]
        if response.status != 200:
            account.refused[json.loads(content)["code"]] += 1
            account.refused_ids.add(request_id)
            return False
        version = int(response.headers["mofang-version"])
        account.answered[request_id] = Answered(version, response.headers["mofang-digest"], rows)
        if json.loads(content)["outputs"][0]["data"] != [version * number for number in data]:
            account.wrong += 1
        return True

    def close(self) -> None:
        self._connection.close()


class _Grpc:
    def __init__(self, server: Server, endpoint: str) -> None:
        # A channel of its own for each client, which does not wait long before it connects again.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = grpc.insecure_channel(server.grpc, options=options)
        self._endpoint = endpoint
        self._infer = self._channel.unary_unary(
            INFER,
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def once(self, account: Account, rows: int) -> bool:
        """See :meth:`_Rest.once`."""
        x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
        request = pb.ModelInferRequest(model_name=self._endpoint)
        request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        request.raw_input_contents.append(encode_raw(x))
        metadata = (("authorization", f"Bearer {account.key}"),)
        try:
            response, call = self._infer.with_call(request, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            told = dict(error.trailing_metadata() or ())
            if "mofang-code" in told:
                account.refused[told["mofang-code"]] += 1
                account.refused_ids.add(told.get("x-request-id", ""))
                return False
            if "failed to connect" in (error.details() or ""):
                raise ConnectionRefusedError from error
            account.broken.append(rows)
            return True
        told = {**dict(call.initial_metadata()), **dict(call.trailing_metadata())}
        version = int(told["mofang-version"])
        account.answered[told["x-request-id"]] = Answered(version, told["mofang-digest"], rows)
        if response.raw_output_contents[0] != (x * version).tobytes():
            account.wrong += 1
        return True

    def close(self) -> None:
        self._channel.close()


def settled(server: Server) -> dict[str, dict[str, UsageEvent]]:
    """Return the ledger's events by request id and meter, when the journal is folded."""
    journal = server.data / "journal"

    def folded() -> bool:
        before = [(path.name, path.stat().st_size) for path in sorted(journal.glob("*.journal"))]
        server.client.meter.usage()  # answered after a fold
        return before == [(path.name, path.stat().st_size) for path in sorted(journal.glob("*.journal"))]

    wait_until(folded, 30, "the journal is folded")
    events: dict[str, dict[str, UsageEvent]] = defaultdict(dict)
    for event in server.client.meter.events():
        assert event.meter not in events[event.request_id], f"{event.event_id} is in the ledger twice"
        events[event.request_id][event.meter] = event
    return dict(events)


def assert_guarantees(server: Server, oracle: Oracle) -> None:
    """Compare what the clients know with the ledger, the invoice and the audit log. The server must be at rest."""
    events = settled(server)
    by_key: dict[str, set[str]] = defaultdict(set)
    for request_id, meters in events.items():
        by_key[meters["requests"].key_id].add(request_id)
    for account in oracle.accounts:
        assert account.wrong == 0
        assert not account.refused["key.unknown"]  # by a gateway that has just started
        _assert_account(account, by_key[account.key_id], events)
    _assert_budget(server, oracle, events)
    _assert_invoice(server, events)


def capped_budget(server: Server) -> BudgetState:
    """Return how the capped project's budget stands."""
    return next(each for each in server.client.budget.list() if each.name == CAPPED)


def _assert_account(account: Account, billed: set[str], events: dict[str, dict[str, UsageEvent]]) -> None:
    for request_id, answer in account.answered.items():  # G1: each fully received answer is billed once
        assert request_id in billed, f"{request_id} was answered and not billed"
        meters = events[request_id]
        assert (meters["requests"].quantity, meters["rows"].quantity) == (1, answer.rows)
        assert {(each.version, each.digest) for each in meters.values()} == {(answer.version, answer.digest)}
    assert not billed & account.refused_ids  # G2: a refused request is billed nothing
    unknown = billed - account.answered.keys()  # G3: one that broke off at most once, for what was asked
    assert len(unknown) <= len(account.broken)
    assert not Counter(events[each]["rows"].quantity for each in unknown) - Counter(account.broken)


def _assert_budget(server: Server, oracle: Oracle, events: dict[str, dict[str, UsageEvent]]) -> None:
    """G4: never more than the limit; and what was lent to gateways that died has come back: all of it was used."""
    spent = sum(meters["requests"].project == CAPPED for meters in events.values())
    answered = sum(len(account.answered) for account in oracle.accounts if account.project == CAPPED)
    budget = capped_budget(server)
    assert answered <= spent == budget.spent == budget.amount
    assert (budget.lent, budget.reserved) == (0, 0)


def _assert_invoice(server: Server, events: dict[str, dict[str, UsageEvent]]) -> None:
    """G5: the invoice is the sum of the events, and can be made again; the audit log is whole, and saw those events."""
    sums: Counter[tuple[str, str]] = Counter()
    for meters in events.values():
        for event in meters.values():
            sums[event.digest, event.meter] += event.quantity
    hour = now_us() // HOUR_US * HOUR_US
    invoice = server.client.bill.create_invoice(start=hour - 24 * HOUR_US, end=hour + HOUR_US)
    priced: Counter[tuple[str, str]] = Counter()
    for line in invoice.lines:
        for part in line.parts:
            priced[part.digest, line.scope.meter] += part.quantity
    assert priced == {group: quantity for group, quantity in sums.items() if group[1] in ("requests", "rows")}
    owed = sum(quantity * (1000 if meter == "requests" else 200) for (_, meter), quantity in priced.items())
    assert invoice.total_micros == owed
    check = server.client.bill.verify_invoice(invoice.id)
    assert check.matches
    assert check.events_match
    assert server.client.audit.verify(usage=True).records > 0  # every fold's digest, recomputed from the ledger
