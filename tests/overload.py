"""Ten times more than a model can compute, asked whatever is answered: what is taken is answered in time, the rest is
refused in words."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from asking import INFER, address, inputs, slow_message, slow_request

from servers import Server, wait_until

COST_SECONDS = 0.05  # of one call
SLO_SECONDS = 0.5
DEADLINE_SECONDS = 0.95  # a little less than twice that: an answer in time still has its way to the client
BACK_SECONDS = 2.0  # until all is as it was before
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


def overload(server: Server, seconds: float, late_share: float = 0.0) -> tuple[Account, int]:
    """Ask the endpoint ``slow`` :data:`OVERLOAD` times what it can compute, and check what becomes of the requests.

    ``late_share`` of them may meet their deadline, on a machine that stalls. Return the account, without these, and
    the most requests that waited at once.
    """
    steps = _steps_for(server, COST_SECONDS)
    account, deepest = asyncio.run(_storm(server, steps, seconds))
    wait_until(lambda: _call_seconds(server, steps) <= 2 * COST_SECONDS, BACK_SECONDS, "calls as fast as before")
    late = account.outcomes.pop("504", 0) + account.outcomes.pop("DEADLINE_EXCEEDED", 0)
    assert late <= late_share * OVERLOAD * seconds / COST_SECONDS, late  # what was to be late was refused
    assert set(account.outcomes) <= {"200", "OK", "429", "503", "RESOURCE_EXHAUSTED"}, account.outcomes
    assert account.outcomes["429"] > 10 * seconds
    assert account.outcomes["RESOURCE_EXHAUSTED"] > 2 * seconds
    assert all(each.isdecimal() and 1 <= int(each) <= 30 for each in account.retry_after), account.retry_after
    assert len(account.accepted) > 0.5 * seconds / COST_SECONDS
    assert quantile(account.accepted, 0.99) <= 2 * SLO_SECONDS
    assert quantile(account.refused, 0.5) < 0.1  # at once, not after a wait
    assert deepest < 100  # what waits is bounded by the time it has
    return account, deepest


async def _storm(server: Server, steps: int, seconds: float) -> tuple[Account, int]:
    account, wires, rate = Account(), Wires(server), OVERLOAD / COST_SECONDS
    request = slow_request(server.key, steps, f"x-request-timeout-ms: {int(1000 * DEADLINE_SECONDS)}")
    message = slow_message(steps).SerializeToString()
    began, deepest = time.monotonic(), 0
    running: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        for number in range(int(rate * seconds)):
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


def _steps_for(server: Server, seconds: float) -> int:
    """Return the steps that the model computes for about so long, on this machine and now."""
    guess = 1000
    return round(guess * seconds / statistics.median(_call_seconds(server, guess) for _ in range(5)))


def _call_seconds(server: Server, steps: int) -> float:
    began = time.monotonic()
    server.client.serve.predict("slow", inputs(steps), timeout_seconds=20)
    return time.monotonic() - began


def quantile(values: list[float], share: float) -> float:
    """Return the value below which so large a share of ``values`` lies."""
    return sorted(values)[round(share * (len(values) - 1))]
