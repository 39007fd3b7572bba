"""Server reflection (versions 1 and 1alpha), so that grpcurl and its like need no ``.proto`` files.

The descriptors are those of our private pools, which the package grpcio-reflection could serve too; but it comes with
messages generated for one range of protobuf versions, and is as long as this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mofang.base.domain.errors import NotFound
from mofang.surface.protocols.grpc.http2.stream import Method, Stream
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.grpc.talk import holder, read, streamed
from mofang.surface.protocols.lane import Lane
from mofang.surface.wire import health_pb2, inference_pb2
from mofang.surface.wire import reflection_pb2 as pb
from mofang.surface.wire.status import status_of

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
_FILES = (inference_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, pb.DESCRIPTOR)


class Reflection:
    """Describes what is served; needs a key, as all that is not health does."""

    def __init__(self, lane: Lane, streams: Streams) -> None:
        self._lane = lane
        self._streams = streams
        self._symbols = {symbol: file for file in _FILES for symbol in _symbols(file)}

    def methods(self) -> dict[str, Method]:
        """Return the calls of the services, by their paths."""
        call = streamed(self._info, lambda stream: holder(self._lane, stream))
        return {f"/{service}/ServerReflectionInfo": call for service in SERVICES}

    async def _info(self, stream: Stream, request_id: str) -> None:
        await self._streams.run(stream, self._answer)

    async def _answer(self, data: bytes, _: Stream) -> bytes:
        request = read(pb.ServerReflectionRequest, data)
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        response.MergeFrom(self._describe(request))
        return bytes(response.SerializeToString())

    def _describe(self, request: Any) -> Any:
        kind = request.WhichOneof("message_request")
        if kind == "list_services":
            names = sorted(service.full_name for file in _FILES for service in file.services_by_name.values())
            return pb.ServerReflectionResponse(list_services_response={"service": [{"name": name} for name in names]})
        wanted = getattr(request, kind) if kind else ""
        if kind == "all_extension_numbers_of_type" and wanted in self._symbols:  # proto3 messages have none
            return pb.ServerReflectionResponse(all_extension_numbers_response={"base_type_name": wanted})
        file = None
        if kind == "file_containing_symbol":
            file = self._symbols.get(wanted)
        elif kind == "file_by_filename":
            file = next((each for each in _FILES if each.name == wanted), None)
        if file is None:
            error = {"error_code": status_of(NotFound).grpc, "error_message": f"there is no {kind}"}
            return pb.ServerReflectionResponse(error_response=error)
        return pb.ServerReflectionResponse(file_descriptor_response={"file_descriptor_proto": [file.serialized_pb]})


def _symbols(file: Any) -> Iterator[str]:
    """Yield the full name of everything in ``file`` that somebody may ask for."""
    for each in file.services_by_name.values():
        yield each.full_name
        yield from (method.full_name for method in each.methods)
    yield from (enum.full_name for enum in file.enum_types_by_name.values())
    for message in file.message_types_by_name.values():
        yield from _members(message)


def _members(message: Any) -> Iterator[str]:
    yield message.full_name
    yield from (field.full_name for field in message.fields)
    yield from (enum.full_name for enum in message.enum_types)
    for nested in message.nested_types:
        yield from _members(nested)
