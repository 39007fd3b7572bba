"""Clients that ask an endpoint without a pause, over REST and gRPC, and count what they get.

Each client is a thread with connections of its own, kept alive. `examples/demo.py` runs them while versions switch.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mofang import Client
from mofang.base.domain.errors import MofangError

Protocol = Literal["rest", "grpc"]


@dataclass(frozen=True)
class Answer:
    """One answer: when it was asked for (time.monotonic()), how long it took, and which version made it."""

    asked_at: float
    seconds: float
    protocol: Protocol
    rows: int
    version: int


@dataclass
class Tally:
    """Everything clients got."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def versions(self, since: float = 0.0) -> Counter[int]:
        """Count answers by version, of those asked for after ``since``."""
        return Counter(answer.version for answer in self.answers if answer.asked_at >= since)

    def protocols(self) -> Counter[str]:
        """Count answers by protocol."""
        return Counter(answer.protocol for answer in self.answers)

    def percentile(self, share: float) -> float:
        """Return the latency, in seconds, that ``share`` of the answers stayed within."""
        times = sorted(answer.seconds for answer in self.answers)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0


class Load:
    """A crowd of clients; use it as a context manager."""

    def __init__(
        self, endpoint: str, features: NDArray[np.float32], *, url: str, grpc: str, key: str, each: int = 4
    ) -> None:
        self._endpoint = endpoint
        self._features = features
        self._url, self._grpc, self._key = url, grpc, key
        self._stopping = threading.Event()
        self._tallies: list[Tally] = []
        self._answers = 0
        self._more = threading.Condition()
        self._threads = [self._client(p, number) for number in range(each) for p in ("rest", "grpc")]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def tally(self) -> Tally:
        """Everything the clients got so far."""
        return Tally(
            [answer for tally in self._tallies for answer in tally.answers],
            [failure for tally in self._tallies for failure in tally.failures],
        )

    def wait_for(self, answers: int, timeout_seconds: float = 30.0) -> None:
        """Return when so many more answers have come, or after ``timeout_seconds``."""
        with self._more:
            enough = self._answers + answers
            self._more.wait_for(lambda: self._answers >= enough, timeout_seconds)

    def _client(self, protocol: Protocol, number: int) -> threading.Thread:
        tally = Tally()
        self._tallies.append(tally)
        return threading.Thread(target=self._ask, args=(protocol, number, tally), daemon=True)

    def _ask(self, protocol: Protocol, number: int, tally: Tally) -> None:
        random = np.random.default_rng(number)
        with Client(self._url, self._key, grpc=self._grpc) as client:
            while not self._stopping.is_set():
                rows = int(random.integers(1, 5))
                inputs = {"features": self._features[random.integers(0, len(self._features), rows)]}
                asked_at = time.monotonic()
                try:
                    found = client.serve.predict(self._endpoint, inputs, protocol=protocol)
                except MofangError as error:
                    tally.failures.append(f"{protocol}: [{error.code}] {error}")
                    continue
                tally.answers.append(Answer(asked_at, time.monotonic() - asked_at, protocol, rows, found.version))
                with self._more:
                    self._answers += 1
                    self._more.notify_all()
