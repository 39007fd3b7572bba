"""A06: ten times more than a model can compute: what is taken is answered in time, the rest is refused in words."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from asking import INFER, address, inputs, slow_message, slow_request
from nets import slow

from servers import Server

COST_SECONDS = 0.05  # of one call
SLO_SECONDS = 0.5
DEADLINE_SECONDS = 0.95  # a little less than twice that: an answer in time still has its way to the client
SECONDS = 10.0
OVERLOAD = 10
GRPC_SHARE = 5  # every fifth goes over gRPC


@dataclass
class Account:
    """What became of the requests."""

    accepted: list[float] = field(default_factory=list)  # seconds each
    refused: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    retry_after: set[str] = field(default_factory=set)

    def add(self, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        (self.accepted if outcome in ("200", "OK") else self.refused).append(seconds)


class Wires:
    """HTTP connections, as many as it takes."""

    def __init__(self, server: Server) -> None:
        self._address = address(server)
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        wire = self._free.pop() if self._free else await asyncio.open_connection(*self._address)
        yield wire
        self._free.append(wire)

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def ask_rest(wires: Wires, request: bytes, account: Account) -> None:
    async with wires.one() as (reader, writer):
        began = time.monotonic()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        await reader.readexactly(int(fields["content-length"]))
        account.add(head.split()[1], time.monotonic() - began)
        if head.split()[1] in ("429", "503"):
            account.retry_after.add(fields["retry-after"])


async def ask_grpc(channel: grpc.aio.Channel, message: bytes, key: str, account: Account) -> None:
    began = time.monotonic()
    try:
        call = channel.unary_unary(INFER)
        await call(message, metadata=[("authorization", f"Bearer {key}")], timeout=DEADLINE_SECONDS)
        outcome = "OK"
    except grpc.aio.AioRpcError as error:
        outcome = error.code().name
        if outcome == "RESOURCE_EXHAUSTED":
            account.retry_after.add(str(dict(error.trailing_metadata())["retry-after"]))
    account.add(outcome, time.monotonic() - began)


async def storm(server: Server, steps: int, rate: float) -> tuple[Account, int]:
    """Ask ``rate`` times a second, whatever is answered; return the account and the most calls that waited at once."""
    account, wires = Account(), Wires(server)
    request = slow_request(server.key, steps, f"x-request-timeout-ms: {int(1000 * DEADLINE_SECONDS)}")
    message = slow_message(steps).SerializeToString()
    began, deepest = time.monotonic(), 0
    running: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        for number in range(int(rate * SECONDS)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            if number % GRPC_SHARE:
                asked = ask_rest(wires, request, account)
            else:
                asked = ask_grpc(channel, message, server.key, account)
            task = asyncio.create_task(asked)
            running.add(task)
            task.add_done_callback(running.discard)
            deepest = max(deepest, len(running))
        await asyncio.gather(*running)
    wires.close()
    return account, deepest


@pytest.fixture
def served(server: Server, tmp_path: Path) -> Server:
    server.serve("slow", slow(tmp_path))
    return server


def test_ten_times_too_much_is_refused_in_words_and_the_rest_is_in_time(served: Server) -> None:
    steps = _steps_for(served, COST_SECONDS)
    account, deepest = asyncio.run(storm(served, steps, OVERLOAD / COST_SECONDS))
    late = account.outcomes.pop("504", 0) + account.outcomes.pop("DEADLINE_EXCEEDED", 0)
    assert late <= 0.02 * OVERLOAD * SECONDS / COST_SECONDS  # the machine stalled; what was to be late was refused
    assert set(account.outcomes) <= {"200", "OK", "429", "503", "RESOURCE_EXHAUSTED"}, account.outcomes
    assert account.outcomes["429"] > 100
    assert account.outcomes["RESOURCE_EXHAUSTED"] > 20
    assert all(each.isdecimal() and 1 <= int(each) <= 30 for each in account.retry_after), account.retry_after
    assert len(account.accepted) > 0.5 * SECONDS / COST_SECONDS
    assert _quantile(account.accepted, 0.99) <= 2 * SLO_SECONDS
    assert _quantile(account.refused, 0.5) < 0.1  # at once, not after a wait
    assert deepest < 100  # what waits is bounded by the time it has
    began = time.monotonic()
    assert served.client.serve.predict("slow", inputs(1)).version == 1
    assert time.monotonic() - began < 2.0


def _steps_for(server: Server, seconds: float) -> int:
    """Return the steps that the model computes for about so long, on this machine and now."""
    guess, took = 1000, []
    for _ in range(5):
        began = time.monotonic()
        server.client.serve.predict("slow", inputs(guess), timeout_seconds=20)
        took.append(time.monotonic() - began)
    return round(guess * seconds / statistics.median(took))


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]
