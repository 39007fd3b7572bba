"""``inference.GRPCInferenceService``: the Open Inference Protocol and its extensions, one method for each call.

``server`` makes one. Errors become the status of the one table, with the sentence people see everywhere as message and
the code in the trailing metadata; on a stream they become the ``error_message`` of their request's answer.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec

from mofang import __version__
from mofang.base.domain.access import Principal
from mofang.base.domain.errors import MofangError, NotFound
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.names import new_id
from mofang.base.domain.tensors import TensorSpec
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import check_role
from mofang.run.serve.visits import TRACE_PARENT, TRACE_RESPONSE
from mofang.surface.protocols.grpc.codec import parse_infer, render_infer
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.grpc.talk import Unary, abort, as_error, deadline, holder, metadatum, read, service
from mofang.surface.protocols.lane import DEFAULT_TIMEOUT_SECONDS, Lane, check_target, refuse_loading
from mofang.surface.protocols.repeat import HEADER, REPLAYED, once
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.status import sentence

SERVICE = "inference.GRPCInferenceService"
_EXTENSIONS = ("model_repository", "statistics")
_KEY = "mofang_idempotency_key"  # of a message of a stream, whose metadata are those of all


class Inference:
    """The calls of the service."""

    def __init__(self, lane: Lane, streams: Streams, once: Once | None = None) -> None:
        self._lane = lane
        self._once = once
        self._streams = streams

    def handler(self) -> Any:
        """Return the service as gRPC wants it."""
        calls = {
            "ServerLive": self._open(pb.ServerLiveRequest, self._server_live),
            "ServerReady": self._open(pb.ServerReadyRequest, self._server_ready),
            "ModelReady": self._keyed(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._keyed(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": self._keyed(pb.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": self._keyed(pb.ModelInferRequest, self._model_infer),
            "ModelStatistics": self._keyed(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": self._keyed(pb.RepositoryIndexRequest, self._repository_index),
            "RepositoryModelLoad": self._keyed(pb.RepositoryModelLoadRequest, self._refuse_loading),
            "RepositoryModelUnload": self._keyed(pb.RepositoryModelUnloadRequest, self._refuse_loading),
        }
        return service(SERVICE, calls, ModelStreamInfer=grpc.stream_stream_rpc_method_handler(self._model_stream_infer))

    def _open(self, message: Any, answer: Callable[[Any], Any]) -> Unary:
        """Wrap a call that needs no key."""

        async def call(data: bytes, context: Any) -> bytes:
            try:
                return bytes(answer(read(message, data)).SerializeToString())
            except MofangError as error:
                return await abort(context, error, new_id("req"))

        return call

    def _keyed(self, message: Any, answer: Callable[[Any, Principal, Any, str], Awaitable[Any]]) -> Unary:
        """Wrap a call that needs a key; errors become statuses."""

        async def call(data: bytes, context: Any) -> bytes:
            request_id = new_id("req")
            try:
                principal = holder(self._lane, context)
                response = await answer(read(message, data), principal, context, request_id)
                return bytes(response.SerializeToString())
            except Exception as error:
                failure = as_error(error, request_id)
            return await abort(context, failure, request_id)

        return call

    def _server_live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._lane.ready)

    async def _model_ready(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        check_target(request.name, request.version)
        try:
            ready = self._lane.is_ready(principal, request.name, request.version)
        except NotFound:  # clients wait like this for a model to appear
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    async def _server_metadata(self, _: Any, principal: Principal, context: Any, request_id: str) -> Any:
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.ServerMetadataResponse(name="mofang", version=__version__, extensions=_EXTENSIONS)

    async def _model_metadata(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        check_target(request.name, request.version)
        revision = self._lane.route(principal, request.name, request.version).revision
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(revision.version)],
            platform=revision.engine,
            inputs=[_spec(spec) for spec in revision.signature.inputs],
            outputs=[_spec(spec) for spec in revision.signature.outputs],
        )

    async def _model_infer(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        until, key = deadline(context), metadatum(context, HEADER)

        async def work(request_id: str) -> bytes:
            answer = await self._infer(request, principal, request_id, until, context)
            said = _Said(_render(request, answer).SerializeToString(), _metadata(answer, request_id))
            return msgspec.msgpack.encode(said)

        if key is None or self._once is None:
            answer = await self._infer(request, principal, request_id, until, context)
            response, metadata = _render(request, answer), _metadata(answer, request_id)
        else:
            check_role(principal, request.model_name)
            question = b"grpc\0" + request.SerializeToString(deterministic=True)
            kept, replayed = await once(self._once, principal, key, question, request_id, until, work)
            said = msgspec.msgpack.decode(kept, type=_Said)
            response = pb.ModelInferResponse.FromString(said.message)
            metadata = (*said.metadata, *(((REPLAYED, "true"),) if replayed else ()))
        await context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        return response

    async def _model_stream_infer(self, requests: Any, context: Any) -> None:
        """Answer every message of a stream in its turn; a key that was revoked meanwhile is refused as elsewhere."""
        stream_id = new_id("req")
        try:
            holder(self._lane, context)
            await context.send_initial_metadata((("x-request-id", stream_id),))
            await self._streams.run(requests, context, self._answer_streamed)
        except MofangError as error:
            await abort(context, error, stream_id)

    async def _answer_streamed(self, data: bytes, context: Any) -> bytes:
        request_id, client_id = new_id("req"), ""
        try:
            principal = holder(self._lane, context)
            request = read(pb.ModelInferRequest, data)
            client_id = request.id
            until = deadline(context, DEFAULT_TIMEOUT_SECONDS)
            response, request_id = await self._answer_message(request, principal, request_id, until, context)
            message = ""
        except Exception as error:
            response, message = pb.ModelInferResponse(id=client_id), sentence(as_error(error, request_id))
        response.parameters["mofang_request_id"].string_param = request_id
        return bytes(pb.ModelStreamInferResponse(error_message=message, infer_response=response).SerializeToString())

    async def _answer_message(
        self, request: Any, principal: Principal, request_id: str, until: float, context: Any
    ) -> tuple[Any, str]:
        """Answer a message of a stream; return the answer and the id of the request that it was computed for."""

        async def work(request_id: str) -> bytes:
            answer = _render(request, await self._infer(request, principal, request_id, until, context))
            return msgspec.msgpack.encode((answer.SerializeToString(), request_id))

        key = request.parameters[_KEY].string_param if _KEY in request.parameters else None
        if key is None or self._once is None:
            return _render(request, await self._infer(request, principal, request_id, until, context)), request_id
        check_role(principal, request.model_name)
        question = b"grpc stream\0" + request.SerializeToString(deterministic=True)
        kept, replayed = await once(self._once, principal, key, question, request_id, until, work)
        message, request_id = msgspec.msgpack.decode(kept, type=tuple[bytes, str])
        response = pb.ModelInferResponse.FromString(message)
        if replayed:
            response.parameters["mofang_idempotency_replayed"].bool_param = True
        return response, request_id

    async def _infer(
        self, request: Any, principal: Principal, request_id: str, until: float, context: Any
    ) -> InferResponse:
        received = time.monotonic()
        check_target(request.model_name, request.model_version)
        asked = parse_infer(request, metadatum(context, TRACE_PARENT), received)
        return await self._lane.infer(
            asked, principal, request_id=request_id, deadline=until, input_bytes=request.ByteSize()
        )

    async def _model_statistics(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        if request.name:
            check_target(request.name, request.version)
        stats = self._lane.statistics(principal, request.name, request.version)
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.ModelStatisticsResponse(model_stats=stats)

    async def _repository_index(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        entries = [self._index_entry(principal, name) for name in self._lane.names(principal)]
        await context.send_initial_metadata((("x-request-id", request_id),))
        return pb.RepositoryIndexResponse(
            models=[entry for entry in entries if not request.ready or entry.state == "READY"]
        )

    def _index_entry(self, principal: Principal, name: str) -> Any:
        index = pb.RepositoryIndexResponse.ModelIndex
        try:
            route = self._lane.route(principal, name)
            ready = self._lane.is_ready(principal, name)
        except NotFound as error:
            return index(name=name, state="UNAVAILABLE", reason=error.message)
        state = "READY" if ready else "UNAVAILABLE"
        return index(name=name, version=str(route.revision.version), state=state, reason=route.broken)

    async def _refuse_loading(self, request: Any, principal: Principal, context: Any, request_id: str) -> Any:
        raise refuse_loading(request.model_name)


class _Said(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept."""

    message: bytes
    metadata: tuple[tuple[str, str], ...]


def _metadata(answer: InferResponse, request_id: str) -> tuple[tuple[str, str], ...]:
    return (
        ("x-request-id", request_id),
        ("mofang-version", str(answer.version)),
        ("mofang-revision", str(answer.revision)),
        ("mofang-digest", answer.digest),
        *((("server-timing", answer.timing),) if answer.timing else ()),
        *(((TRACE_RESPONSE, answer.trace),) if answer.trace else ()),
    )


def _render(request: Any, answer: InferResponse) -> Any:
    return render_infer(answer, raw=bool(request.raw_input_contents) or not request.inputs)


def _spec(spec: TensorSpec) -> Any:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
