"""Answers a batch: asks line by line, some side by side, keeps what came, and goes on from there after a death.

Every line is asked on behalf of the key that made the batch, under a request id of its own: a line that was asked
again, since nobody knew whether it had been answered, is on the bill once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mofang.base.domain.names import new_id
from mofang.base.domain.work import Progress
from mofang.run.batch.lines import Answer, Answered, Asked, request_id

_SIDE_BY_SIDE = 16
_MOST_TRIES = 30
_LONGEST_PAUSE = 30.0
_LATER = frozenset({429, 503})


class Reply(NamedTuple):
    """An HTTP answer: ``after`` is the seconds it says to wait."""

    status: int
    body: Any
    after: float = 1.0


Ask = Callable[[str, dict[str, Any], str], Reply]
"""Ask a path with a body under a request id. Raises OSError if nobody answers."""


class Batch:
    """A batch being answered; ``kept`` is a file of answers that outlives a worker."""

    def __init__(
        self, name: str, kept: Path, ask: Ask, progress: Progress, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._name = name
        self._kept = kept
        self._ask = ask
        self._progress = progress
        self._pause = pause
        self.completed = 0
        self.failed = 0

    def answer(self, asked: list[tuple[int, Asked]]) -> None:
        """Ask all that has no answer yet. Raises what ``progress`` raises, with all kept that came before."""
        done = {answered.custom_id for answered in self.answers()}
        left = iter([(number, each) for number, each in asked if each.custom_id not in done])
        for answered in self.answers():
            self._count(answered)
        with ThreadPoolExecutor(_SIDE_BY_SIDE, "line") as pool, self._kept.open("ab") as file:
            running: set[Future[Answered]] = set()
            try:
                while True:
                    while len(running) < _SIDE_BY_SIDE and (line := next(left, None)) is not None:
                        running.add(pool.submit(self._one, *line))
                    if not running:
                        return
                    ended, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        self._keep(future.result(), file)
                    self._report(len(asked))
            finally:
                for future in running:
                    future.cancel()
                for future in running:  # what is under way is paid for: keep it
                    if not future.cancelled():
                        self._keep(future.result(), file)

    def answers(self) -> Iterator[Answered]:
        """Yield the answers that are kept; a last line that was cut by a death is none."""
        if not self._kept.exists():
            return
        content = self._kept.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self._kept.write_bytes(whole)
        for line in whole.splitlines():
            yield msgspec.json.decode(line, type=Answered)

    def _one(self, number: int, asked: Asked) -> Answered:
        """Ask one line, again as long as it is told to come later."""
        name, told = request_id(self._name, number), new_id("batch_req")
        error = {"code": "unavailable", "message": "nobody answered"}
        for _ in range(_MOST_TRIES):
            try:
                reply = self._ask(asked.url, asked.body, name)
            except OSError as failure:
                error["message"] = str(failure)[:300]
                self._pause(1.0)
                continue
            if reply.status not in _LATER:
                return Answered(told, asked.custom_id, Answer(reply.status, name, reply.body))
            error = {"code": str(reply.status), "message": "there was no room for the request for too long"}
            self._pause(min(_LONGEST_PAUSE, max(0.05, reply.after)))
        return Answered(told, asked.custom_id, None, error)

    def _keep(self, answered: Answered, file: Any) -> None:
        file.write(msgspec.json.encode(answered) + b"\n")
        file.flush()
        self._count(answered)

    def _count(self, answered: Answered) -> None:
        if answered.well:
            self.completed += 1
        else:
            self.failed += 1

    def _report(self, total: int) -> None:
        done = self.completed + self.failed
        counts = {"total": total, "completed": self.completed, "failed": self.failed}
        self._progress.report("batch", done / total, f"{done:,} of {total:,} answered", **counts)
