"""What an endpoint answers, and the interface of the two ways to ask it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mofang.base.domain.tensors import Array


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """An answer: the outputs by name, and which version of the model made it."""

    outputs: Mapping[str, Array]
    endpoint: str
    version: int
    revision: int
    digest: str
    request_id: str


class Channel(Protocol):
    """A way to ask an endpoint."""

    def predict(
        self, endpoint: str, inputs: Mapping[str, Array], *, version: str, timeout_seconds: float, key: str
    ) -> Prediction:
        """Ask ``endpoint`` and return its answer."""
        ...

    def close(self) -> None:
        """Let go of what asking opened."""
        ...
