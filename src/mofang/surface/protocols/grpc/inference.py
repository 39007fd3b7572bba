"""``inference.GRPCInferenceService``: the Open Inference Protocol and its extensions, one method for each call.

``server`` makes one. Errors become the status of the one table, with the sentence people see everywhere as message and
the code in the trailing metadata; on a stream they become the ``error_message`` of their request's answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from mofang import __version__
from mofang.base.domain.access import Principal
from mofang.base.domain.errors import MofangError, NotFound
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.names import new_id
from mofang.base.domain.tensors import TensorSpec
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import check_role
from mofang.run.serve.generate import Generator
from mofang.run.serve.visits import TRACE_PARENT
from mofang.surface.protocols.grpc.codec import answer_fields, own_fields, parse_infer, render_answer
from mofang.surface.protocols.grpc.generate import Texts, asks_text
from mofang.surface.protocols.grpc.http2.heads import block
from mofang.surface.protocols.grpc.http2.stream import Method, Stream
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.grpc.talk import Unary, anybody, as_error, deadline, holder, read, streamed, unary
from mofang.surface.protocols.grpc.together import Together
from mofang.surface.protocols.lane import DEFAULT_TIMEOUT_SECONDS, PartyLane, check_target, refuse_loading, tell_refused
from mofang.surface.protocols.repeat import HEADER, REPLAYED, once
from mofang.surface.protocols.texts import TEXT_TIMEOUT_SECONDS
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.status import sentence

SERVICE = "inference.GRPCInferenceService"
_EXTENSIONS = ("model_repository", "statistics")
_KEY = "mofang_idempotency_key"  # of a message of a stream, whose metadata are those of all


class Inference:
    """The calls of the service."""

    def __init__(
        self, lane: PartyLane, streams: Streams, once: Once | None = None, generator: Generator | None = None
    ) -> None:
        self._lane = lane
        self._texts = Texts(generator) if generator is not None else None
        self._once = once
        self._streams = streams
        self._together = Together(lane)

    def methods(self) -> dict[str, Method]:
        """Return the calls of the service, by their paths."""
        calls = {
            "ServerLive": unary(_open(pb.ServerLiveRequest, self._server_live), anybody),
            "ServerReady": unary(_open(pb.ServerReadyRequest, self._server_ready), anybody),
            "ModelReady": self._keyed(pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": self._keyed(pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": self._keyed(pb.ModelMetadataRequest, self._model_metadata),
            "ModelInfer": Method(self._begin_infer, self._model_infer),
            "ModelStreamInfer": streamed(self._model_stream_infer, self._begin_infer),
            "ModelStatistics": self._keyed(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": self._keyed(pb.RepositoryIndexRequest, self._repository_index),
            "RepositoryModelLoad": self._keyed(pb.RepositoryModelLoadRequest, self._refuse_loading),
            "RepositoryModelUnload": self._keyed(pb.RepositoryModelUnloadRequest, self._refuse_loading),
        }
        return {f"/{SERVICE}/{name}": method for name, method in calls.items()}

    def _begin(self, stream: Stream) -> None:
        """Let in who has a key: before a stranger's messages are kept in memory, not after."""
        holder(self._lane, stream)

    def _begin_infer(self, stream: Stream) -> None:
        """The same for a request to infer, whose end is told to those who look at requests."""
        try:
            holder(self._lane, stream)
        except MofangError as error:
            request_id = new_id("req")
            self._lane.refused(error, request_id, "")
            stream.fail(error, request_id)

    def _keyed(self, message: Any, answer: Callable[[Any, Principal], Any]) -> Method:
        """Wrap a call that needs a key."""

        async def call(data: bytes, stream: Stream, request_id: str) -> bytes:
            return bytes(answer(read(message, data), holder(self._lane, stream)).SerializeToString())

        return unary(call, self._begin)

    def _server_live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    def _server_ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._lane.ready)

    def _model_ready(self, request: Any, principal: Principal) -> Any:
        check_target(request.name, request.version)
        try:
            ready = self._lane.is_ready(principal, request.name, request.version)
        except NotFound:  # clients wait like this for a model to appear
            ready = False
        return pb.ModelReadyResponse(ready=ready)

    def _server_metadata(self, _: Any, principal: Principal) -> Any:
        return pb.ServerMetadataResponse(name="mofang", version=__version__, extensions=_EXTENSIONS)

    def _model_metadata(self, request: Any, principal: Principal) -> Any:
        check_target(request.name, request.version)
        revision = self._lane.route(principal, request.name, request.version).revision
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[str(revision.version)],
            platform=revision.engine,
            inputs=[_spec(spec) for spec in revision.signature.inputs],
            outputs=[_spec(spec) for spec in revision.signature.outputs],
        )

    def _model_infer(self, stream: Stream, data: bytes) -> None:
        key = stream.head.value(HEADER)
        if key is None or self._once is None:
            self._together.add(stream, data)
        else:
            stream.spawn(self._infer_once(self._once, key, stream, data))

    async def _infer_once(self, store: Once, key: str, stream: Stream, data: bytes) -> None:
        """Answer a request with an idempotency key, which may have been answered before."""
        request_id, endpoint = new_id("req"), ""
        try:
            principal = holder(self._lane, stream)
            request, until = read(pb.ModelInferRequest, data), deadline(stream.head)
            endpoint = request.model_name
            check_role(principal, endpoint)
            question = b"grpc\0" + request.SerializeToString(deterministic=True)

            async def work(request_id: str) -> bytes:
                answer = await self._infer(request, principal, request_id, until, stream)
                common = answer_fields(answer.version, answer.revision, answer.digest)
                fields = (*common, *own_fields(answer, request_id))
                return msgspec.msgpack.encode(_Said(render_answer(request, answer).SerializeToString(), fields))

            kept, replayed = await once(store, principal, key, question, request_id, until, work)
        except Exception as error:
            tell_refused(self._lane, error, request_id, endpoint, len(data), partial(holder, self._lane, stream))
            stream.fail(as_error(error, request_id), request_id)
            return
        said = msgspec.msgpack.decode(kept, type=_Said)
        metadata = block((*said.metadata, *(((REPLAYED, "true"),) if replayed else ())))
        stream.reply(metadata, said.message, metadata)

    async def _model_stream_infer(self, stream: Stream, request_id: str) -> None:
        """Answer every message of a stream in its turn; a key that was revoked meanwhile is refused as elsewhere."""
        stream.start((("x-request-id", request_id),))
        await self._streams.run(stream, self._answer_streamed)

    async def _answer_streamed(self, data: bytes, stream: Stream) -> bytes | AsyncGenerator[bytes, None]:
        request_id, client_id, endpoint = new_id("req"), "", ""
        try:
            principal = holder(self._lane, stream)
            request = read(pb.ModelInferRequest, data)
            client_id, endpoint = request.id, request.model_name
            if self._texts is not None and asks_text(request) and self._is_for_text(request, principal):
                until = deadline(stream.head, TEXT_TIMEOUT_SECONDS)
                return _told(request, self._texts.tell(request, principal, request_id, until), request_id)
            until = deadline(stream.head, DEFAULT_TIMEOUT_SECONDS)
            response, request_id = await self._answer_message(request, principal, request_id, until, stream)
            message = ""
        except Exception as error:
            tell_refused(self._lane, error, request_id, endpoint, len(data), partial(holder, self._lane, stream))
            response, message = pb.ModelInferResponse(id=client_id), sentence(as_error(error, request_id))
        return _streamed(response, request_id, message)

    def _is_for_text(self, request: Any, principal: Principal) -> bool:
        check_target(request.model_name, request.model_version)
        check_role(principal, request.model_name)
        route = self._lane.route(principal, request.model_name, request.model_version)
        return route.revision.signature == TEXT_SIGNATURE

    async def _answer_message(
        self, request: Any, principal: Principal, request_id: str, until: float, stream: Stream
    ) -> tuple[Any, str]:
        """Answer a message of a stream; return the answer and the id of the request that it was computed for."""

        async def work(request_id: str) -> bytes:
            answer = render_answer(request, await self._infer(request, principal, request_id, until, stream))
            return msgspec.msgpack.encode((answer.SerializeToString(), request_id))

        key = request.parameters[_KEY].string_param if _KEY in request.parameters else None
        if key is None or self._once is None:
            return render_answer(request, await self._infer(request, principal, request_id, until, stream)), request_id
        check_role(principal, request.model_name)
        question = b"grpc stream\0" + request.SerializeToString(deterministic=True)
        kept, replayed = await once(self._once, principal, key, question, request_id, until, work)
        message, request_id = msgspec.msgpack.decode(kept, type=tuple[bytes, str])
        response = pb.ModelInferResponse.FromString(message)
        if replayed:
            response.parameters["mofang_idempotency_replayed"].bool_param = True
        return response, request_id

    async def _infer(
        self, request: Any, principal: Principal, request_id: str, until: float, stream: Stream
    ) -> InferResponse:
        received = time.monotonic()
        check_target(request.model_name, request.model_version)
        asked = parse_infer(request, stream.head.value(TRACE_PARENT), received)
        return await self._lane.infer(
            asked, principal, request_id=request_id, deadline=until, input_bytes=request.ByteSize()
        )

    def _model_statistics(self, request: Any, principal: Principal) -> Any:
        if request.name:
            check_target(request.name, request.version)
        stats = self._lane.statistics(principal, request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=stats)

    def _repository_index(self, request: Any, principal: Principal) -> Any:
        entries = [self._index_entry(principal, name) for name in self._lane.names(principal)]
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

    def _refuse_loading(self, request: Any, principal: Principal) -> Any:
        raise refuse_loading(request.model_name)


class _Said(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is kept."""

    message: bytes
    metadata: tuple[tuple[str, str], ...]


async def _told(request: Any, answers: AsyncGenerator[Any, None], request_id: str) -> AsyncGenerator[bytes, None]:
    """Yield the messages of a stream for ``answers``; what breaks off is the last."""
    try:
        async with aclosing(answers):
            async for response in answers:
                yield _streamed(response, request_id)
    except Exception as error:
        yield _streamed(pb.ModelInferResponse(id=request.id), request_id, sentence(as_error(error, request_id)))


def _streamed(response: Any, request_id: str, error: str = "") -> bytes:
    response.parameters["mofang_request_id"].string_param = request_id
    return bytes(pb.ModelStreamInferResponse(error_message=error, infer_response=response).SerializeToString())


def _open(message: Any, answer: Callable[[Any], Any]) -> Unary:
    """Wrap a call that needs no key."""

    async def call(data: bytes, stream: Stream, request_id: str) -> bytes:
        return bytes(answer(read(message, data)).SerializeToString())

    return call


def _spec(spec: TensorSpec) -> Any:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
