"""A party of calls, for tests of replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import numpy as np

from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array
from mofang.base.placement.ticket import FutureTicket


class Company:
    """A party of calls, and what became of it: one answer, or tickets."""

    def __init__(self, *calls: Call) -> None:
        self.calls = calls
        self.inputs: Mapping[str, Array] = {"x": np.concatenate([each.inputs["x"] for each in calls])}
        self.rows_of = [each.rows for each in calls]
        self.rows = sum(self.rows_of)
        self.tenants = [(each.tenant, each.weight, 1) for each in calls]
        self.priorities = {index: each.priority for index, each in enumerate(calls) if each.priority}
        self.deadline = min(each.deadline for each in calls)
        self.answer: Answer | None = None
        self.recalled: set[int] = set()
        self.tickets: list[FutureTicket] = []
        self._told = asyncio.Event()

    def computed(self, answer: Answer, recalled: Collection[int] = (), /) -> None:
        assert self.answer is None
        assert not self.tickets
        self.answer, self.recalled = answer, set(recalled)
        self._told.set()

    def apart(self) -> list[FutureTicket]:
        assert not self.tickets
        self.tickets = [FutureTicket(each, asyncio.get_running_loop()) for each in self.calls]
        self._told.set()
        return self.tickets

    async def outcomes(self) -> list[object]:
        """Return what each call was told."""
        async with asyncio.timeout(20):
            await self._told.wait()
        if self.answer is not None:
            return [float(value) for value in self.answer.outputs["y"][:, 0]]
        said = await asyncio.gather(*self.tickets, return_exceptions=True)
        return [float(each.outputs["y"][0, 0]) if isinstance(each, Answer) else type(each) for each in said]
