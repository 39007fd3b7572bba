"""Clients that ask without pause and keep an account of every answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

import numpy as np

from mofang import Client
from mofang.base.domain.errors import MofangError
from servers import Server, wait_until


@dataclass
class Load:
    """``clients`` threads asking ``endpoint`` with rows of ``x``, half over REST, half over gRPC, while entered."""

    server: Server
    endpoint: str
    clients: int = 8
    answers: Counter[int] = field(default_factory=Counter)  # by version
    log: list[tuple[float, float, int]] = field(default_factory=list)  # sent, answered, version
    failures: list[tuple[float, float, str]] = field(default_factory=list)  # sent, answered, code
    wrong: int = 0

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._key = self.server.consumer()
        self._threads = [threading.Thread(target=self._ask, args=(index,)) for index in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for_more(self, count: int) -> None:
        """Return when ``count`` more answers have come."""
        goal = sum(self.answers.values()) + count
        wait_until(lambda: sum(self.answers.values()) >= goal, 30, f"{count} more answers")

    def _ask(self, index: int) -> None:
        protocol: Literal["rest", "grpc"] = "grpc" if index % 2 else "rest"
        x = np.full((1 + index % 3, 4), index + 1, np.float32)
        with Client(self.server.url, self._key, grpc=self.server.grpc) as client:
            while not self._stop.is_set():
                sent = time.monotonic()
                try:
                    answer = client.serve.predict(self.endpoint, {"x": x}, protocol=protocol, timeout_seconds=15)
                except MofangError as error:
                    self.failures.append((sent, time.monotonic(), error.code))
                    continue
                self.answers[answer.version] += 1
                self.log.append((sent, time.monotonic(), answer.version))
                if not np.array_equal(answer.outputs["y"], x * answer.version):
                    self.wrong += 1
