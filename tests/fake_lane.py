"""A lane without engines: ``echo`` gives back what it gets, ``digits`` has a signature, ``nan`` answers badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import (
    Draining,
    EndpointNotFound,
    MofangError,
    Overloaded,
    TensorName,
    Unauthenticated,
    UnknownKey,
)
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Array, Signature, TensorSpec, check_inputs
from mofang.run.serve.statistics import Statistics

KEY = "Bearer good"
HOLDER = Principal("k", "default", "default", "consumer")
DIGITS = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 2)),))
ANY = Signature((), ())


class FakeLane:
    """Implements ``mofang.surface.protocols.lane.Lane``."""

    def __init__(self) -> None:
        self.ready = True
        self.asked: list[tuple[InferRequest, str, float, int]] = []
        self.counted = Statistics()
        self.begun = asyncio.Event()  # `slow` is being answered
        self.dropped = asyncio.Event()  # ... and was cancelled
        self.models: dict[str, tuple[Signature, Callable[[Mapping[str, Array]], dict[str, Array]]]] = {
            "echo": (ANY, dict),
            "digits": (DIGITS, lambda inputs: {"y": inputs["x"][:, :2] * np.float32(2)}),
            "nan": (ANY, lambda _: {"y": np.array([1, np.nan, np.inf], dtype=np.float32)}),
            "blob": (ANY, lambda _: {"y": np.array([b"\xff\x00"], dtype=object)}),
            "busy": (ANY, self._refuse),
            "broken": (ANY, self._break),
            "slow": (ANY, dict),
        }

    def names(self, principal: Principal) -> list[str]:
        return sorted(self.models)

    def is_ready(self, principal: Principal, endpoint: str, version: str = "") -> bool:
        return self.route(principal, endpoint, version).broken == ""

    def route(self, principal: Principal, endpoint: str, version: str = "") -> Route:
        if endpoint not in self.models or version not in ("", "3"):
            raise EndpointNotFound(f"no endpoint {endpoint!r}")
        signature = self.models[endpoint][0]
        revision = Revision(endpoint, 7, endpoint, 3, "sha256:abc", "onnx", signature)
        return Route(revision, (), "crashed" if endpoint == "broken" else "")

    def statistics(self, principal: Principal, endpoint: str = "", version: str = "") -> list[dict[str, Any]]:
        names = [self.route(principal, endpoint, version).revision.endpoint] if endpoint else self.names(principal)
        return [self.counted.show(name, 3) for name in names]

    def refused(
        self,
        error: MofangError,
        request_id: str,
        endpoint: str,
        principal: Principal | None = None,
        input_bytes: int = 0,
    ) -> None:
        return

    def party(self, endpoint: str, version: str, timeout_seconds: float) -> None:
        return None

    def recognise(self, endpoint: str, authorization: str | None, peer: str, forwarded_for: str | None) -> Principal:
        return self.authenticate(authorization, peer, forwarded_for)

    def authenticate(self, authorization: str | None, peer: str = "", forwarded_for: str | None = None) -> Principal:
        if authorization is None:
            raise Unauthenticated("no key")
        if authorization != KEY:
            raise UnknownKey("not one of ours")
        return HOLDER

    async def infer(
        self, request: InferRequest, principal: Principal, *, request_id: str, deadline: float, input_bytes: int
    ) -> InferResponse:
        if not self.ready:
            raise Draining("shutting down")
        self.asked.append((request, request_id, deadline, input_bytes))
        revision = self.route(principal, request.endpoint, request.version).revision
        if revision.signature is not ANY:
            check_inputs(revision.signature, request.inputs, request.endpoint)
        if request.endpoint == "slow":
            await self._forever()
        outputs = self.models[request.endpoint][1](request.inputs)
        if unknown := [name for name in request.outputs if name not in outputs]:
            raise TensorName(f"output {unknown[0]!r} is unknown")
        wanted = {name: outputs[name] for name in request.outputs or outputs}
        return InferResponse(request_id, request.endpoint, 3, 7, "sha256:abc", wanted, request.client_id)

    def start(
        self,
        request: InferRequest,
        principal: Principal,
        *,
        request_id: str,
        deadline: float,
        input_bytes: int,
        told: Callable[[InferResponse | Exception], None],
    ) -> asyncio.Task[None]:
        async def answer() -> None:
            try:
                outcome: InferResponse | Exception = await self.infer(
                    request, principal, request_id=request_id, deadline=deadline, input_bytes=input_bytes
                )
            except Exception as error:
                outcome = error
            told(outcome)

        return asyncio.get_running_loop().create_task(answer())

    async def _forever(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.dropped.set()

    def _refuse(self, _: Mapping[str, Array]) -> dict[str, Array]:
        raise Overloaded("the queue is full", retry_after_seconds=2)

    def _break(self, _: Mapping[str, Array]) -> dict[str, Array]:
        raise ZeroDivisionError("a secret detail")
