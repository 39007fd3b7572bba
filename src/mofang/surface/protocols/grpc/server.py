"""The gRPC server: ``inference.GRPCInferenceService`` and the standard health service.

The gateway calls :func:`serve`. This is the only module that knows which HTTP/2 implementation runs below (grpc.aio);
another one has to offer the same function. Errors become the status of the one table, with the sentence people see
everywhere as message and the code in the trailing metadata.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from mofang import __version__
from mofang.base.domain.access import Principal
from mofang.base.domain.errors import (
    Internal,
    InvalidRequest,
    MofangError,
    NotFound,
    PortInUse,
)
from mofang.base.domain.names import new_id
from mofang.base.domain.tensors import TensorSpec
from mofang.surface.protocols.grpc.codec import parse_infer, render_infer
from mofang.surface.protocols.lane import DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS, Lane, check_target
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.status import headers_of, sentence, status_of

SERVICE = "inference.GRPCInferenceService"
_EXTENSIONS = ("model_repository",)
_HEALTH = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse with its one field, an enumeration
_HEAD_BYTES = 32 << 10
_MAX_CALLS = 4096
_log = logging.getLogger(__name__)


class GrpcServer:
    """A running server."""

    def __init__(self, server: Any, port: int) -> None:
        self._server = server
        self.port = port

    async def stop(self, grace: float) -> None:
        """Take no more calls, let those that run end within ``grace`` seconds, cancel the rest."""
        await self._server.stop(grace)


async def serve(lane: Lane, address: str, *, max_message_bytes: int = 64 << 20, reuse_port: bool = True) -> GrpcServer:
    """Serve on ``HOST:PORT`` (port 0: any free one). Raises PortInUse."""
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", _HEAD_BYTES),
        ("grpc.so_reuseport", int(reuse_port)),
    ]
    server = aio.server(options=options, maximum_concurrent_rpcs=_MAX_CALLS)
    server.add_generic_rpc_handlers(_Calls(lane).handlers())
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortInUse(f"cannot listen for gRPC on {address}") from error
    await server.start()
    return GrpcServer(server, port)


class _Calls:
    """One method for each RPC. Bytes come in and go out, so that a message that cannot be read gets our words."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def handlers(self) -> tuple[Any, Any]:
        """Return the two services as gRPC wants them."""
        calls = {
            "ServerLive": self._open(pb.ServerLiveRequest, self._server_live),
            "ServerReady": self._open(pb.ServerReadyRequest, self._server_ready),
            "ModelReady": self._open(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._keyed(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": self._keyed(pb.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": self._keyed(pb.ModelInferRequest, self._model_infer),
            "RepositoryIndex": self._keyed(pb.RepositoryIndexRequest, self._repository_index),
        }
        return _service(SERVICE, calls), _service(_HEALTH, {"Check": self._health})

    def _open(self, message: Any, answer: Callable[[Any], Any]) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """Wrap a call that needs no key."""

        async def call(data: bytes, context: Any) -> bytes:
            try:
                return bytes(answer(_read(message, data)).SerializeToString())
            except MofangError as error:
                return await _abort(context, error, new_id("req"))

        return call

    def _keyed(
        self, message: Any, answer: Callable[[Any, Principal, Any, str], Awaitable[Any]]
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """Wrap a call that needs a key; errors become statuses."""

        async def call(data: bytes, context: Any) -> bytes:
            request_id = new_id("req")
            try:
                principal = self._lane.authenticate(_authorization(context))
                response = await answer(_read(message, data), principal, context, request_id)
                return bytes(response.SerializeToString())
            except MofangError as error:
                failure = error
            except Exception:
                _log.exception("request %s failed", request_id)
                failure = Internal("the server failed on this request")
            return await _abort(context, failure, request_id)

        return call

    def _server_live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._lane.ready)

    def _model_ready(self, request: Any) -> Any:
        check_target(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._lane.is_ready(request.name, request.version))

    async def _server_metadata(self, _: Any, principal: Principal, context: Any, request_id: str) -> Any:
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.ServerMetadataResponse(name="mofang", version=__version__, extensions=_EXTENSIONS)

    async def _model_metadata(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        check_target(request.name, request.version)
        revision = self._lane.route(request.name, request.version).revision
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(revision.version)],
            platform=revision.engine,
            inputs=[_spec(spec) for spec in revision.signature.inputs],
            outputs=[_spec(spec) for spec in revision.signature.outputs],
        )

    async def _model_infer(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        check_target(request.model_name, request.model_version)
        answer = await self._lane.infer(
            parse_infer(request),
            principal,
            request_id=request_id,
            deadline=_deadline(context),
            input_bytes=request.ByteSize(),
        )
        metadata = (
            ("x-request-id", request_id),
            ("mofang-version", str(answer.version)),
            ("mofang-revision", str(answer.revision)),
            ("mofang-digest", answer.digest),
        )
        response = render_infer(answer, raw=bool(request.raw_input_contents) or not request.inputs)
        await context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        return response

    async def _repository_index(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        entries = [self._index_entry(name) for name in self._lane.names()]
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.RepositoryIndexResponse(
            models=[entry for entry in entries if not request.ready or entry.state == "READY"]
        )

    def _index_entry(self, name: str) -> Any:
        index = pb.RepositoryIndexResponse.ModelIndex
        try:
            route = self._lane.route(name)
            ready = self._lane.is_ready(name)
        except NotFound as error:
            return index(name=name, state="UNAVAILABLE", reason=error.message)
        state = "READY" if ready else "UNAVAILABLE"
        return index(name=name, version=str(route.revision.version), state=state, reason=route.broken)

    async def _health(self, data: bytes, context: Any) -> bytes:
        """Answer HealthCheckRequest{string service = 1}, whose bytes are simple enough to be read here."""
        service = data[2:].decode("utf-8", "replace") if data[:1] == b"\x0a" else ""
        if service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {service[:80]!r}")
        return _SERVING if self._lane.ready else _NOT_SERVING


def _service(name: str, calls: dict[str, Callable[[bytes, Any], Awaitable[bytes]]]) -> Any:
    methods = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in calls.items()}
    return grpc.method_handlers_generic_handler(name, methods)


def _read(message: Any, data: bytes) -> Any:
    try:
        return message.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"the bytes are no {message.DESCRIPTOR.name}") from None


def _authorization(context: Any) -> str | None:
    values = [value for key, value in context.invocation_metadata() if key == "authorization"]
    if len(values) > 1:
        raise InvalidRequest("metadata 'authorization' is given twice")
    return str(values[0]) if values else None


def _deadline(context: Any) -> float:
    left = context.time_remaining()
    seconds = DEFAULT_TIMEOUT_SECONDS if left is None else min(left, MAX_TIMEOUT_SECONDS)
    return time.monotonic() + seconds


def _spec(spec: TensorSpec) -> Any:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


async def _abort(context: Any, error: MofangError, request_id: str) -> bytes:
    """End the call with the error's status; does not return."""
    metadata = (("mofang-code", error.code), ("x-request-id", request_id), *headers_of(error))
    await context.abort(grpc.StatusCode[status_of(error).grpc_name], sentence(error), metadata)
    raise AssertionError("abort raises")
